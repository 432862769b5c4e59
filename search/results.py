"""What a study found, as data frames: trials, baselines, fronts, widths; the knee, hypervolumes and one-line summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.devices.device_model import PREDICTED
from evaluators.metric import Estimate, Metric
from search.box import Box
from search.experiment import Experiment
from search.expressions import parse_pick, parse_where
from search.figures import change, short_name
from search.metric_names import listed_device
from search.pareto import dominates, knee, non_dominated
from search.record import TrialRecord
from search.study_files import EXPERIMENT, STORAGE, find_study, read_records
from search.verification import Verification, measurable, read_verifications

__all__ = ["UNCOMPRESSED", "Results", "Split"]

Split = Literal["report", "search"]

UNCOMPRESSED = "fp32"
"""The baseline that everything is compared with."""

_NOTHING = Estimate(float("nan"), float("nan"), float("nan"), "")


class _Column(NamedTuple):
    """A metric of many candidates, ``[candidates]`` each."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """The records of a study and what follows from them.

    A front is judged on ``report``: among the points that were re-evaluated there, which are the front on ``search`` and the baselines. Where nothing was
    yet, it is judged on ``search``, and says so (``.attrs["split"]``). Costs do not depend on a split. Points that failed, that break a constraint of the
    experiment, or whose artifact did not keep its promise (``verified``, by id) are never on a front.
    """

    experiment: Experiment
    records: tuple[TrialRecord, ...]
    folder: Path | None = None
    verified: Mapping[str, Verification] = field(default_factory=dict)

    @classmethod
    def load(cls, study: str | Path, storage: str | Path = STORAGE) -> Self:
        """The results of a study, by its name or folder; also of one that still runs.

        Raises:
            UserError: there is no such study, or one of its files is not valid.
        """
        folder = find_study(study, storage)
        return cls(Experiment.load(folder / EXPERIMENT), read_records(folder), folder, read_verifications(folder))

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.resolve().name if self.folder else self.experiment.name

    def record(self, trial: str) -> TrialRecord:
        """The record of an id; baselines also by their short names, such as ``int8``.

        Raises:
            UserError: there is none.
        """
        found = {**{r.baseline: r for r in self.records if r.baseline}, **{r.id: r for r in self.records}}
        padded = trial.zfill(4) if trial.isdigit() else trial
        if padded not in found:
            ids = [r.id for r in self.records]
            shown = ", ".join(ids[:12]) + (", ..." if len(ids) > 12 else "")
            raise UserError(f"study {self.name!r} has no trial {trial!r}; accepted: {shown or 'none: nothing has ended yet'}{near_miss(trial, ids)}")
        return found[padded]

    @cached_property
    def uncompressed(self) -> TrialRecord | None:
        """The record of the uncompressed model; None before it was evaluated."""
        return next((r for r in self.records if r.baseline == UNCOMPRESSED and r.status == "ok"), None)

    @property
    def demoted(self) -> tuple[TrialRecord, ...]:
        """Records whose artifact did not keep its promise: ``verified`` says why."""
        return tuple(r for r in self.records if r.id in self.verified and self.verified[r.id].demoted)

    @cached_property
    def measurable(self) -> tuple[str, ...]:
        """Names of the metrics that a verification finds."""
        return measurable(self.experiment)

    # Metrics

    def objectives(self, *metrics: str, device: str | None = None) -> tuple[tuple[str, Metric], ...]:
        """Canonical name and metric of each of ``metrics``; of the experiment's objectives where none is given.

        Args:
            metrics: ``accuracy``, ``latency_ms@raspberry-pi-5``; devices may be abbreviated.
            device: moves predicted metrics of the experiment's objectives to this device, or adds its latency where there are none.

        Raises:
            UserError: an unknown metric or device.
        """
        names = self.experiment.names
        if metrics or device is None:
            return tuple(names.resolve(name) for name in dict.fromkeys(metrics or self.experiment.objectives))
        key = listed_device(device, names.devices)
        moved = [f"{n.partition('@')[0]}@{key}" if "@" in n else n for n in self.experiment.objectives]
        if not any("@" in n for n in moved):
            moved.append(f"latency_ms@{key}")
        return tuple(names.resolve(name) for name in dict.fromkeys(moved))

    def needs_device(self, name: str) -> bool:
        """Whether a metric is predicted for a device and ``name`` leaves open for which."""
        return name in PREDICTED

    def available(self) -> tuple[str, ...]:
        """Canonical names of every metric that some record has, objectives first."""
        known = {name for record in self.records for name in record.metrics}
        return tuple(dict.fromkeys([*(n for n in self.experiment.objectives if n in known), *(n for n in self.experiment.names.all if n in known)]))

    def _estimate(self, record: TrialRecord, name: str, split: Split) -> Estimate:
        if split == "report" and name in record.report:
            return record.report[name]
        observed = name in {m.name for m in self.experiment.names.quality}
        return record.metrics.get(name, _NOTHING) if split == "search" or not observed else _NOTHING

    def _column(self, records: Sequence[TrialRecord], name: str, split: Split) -> _Column:
        found = [self._estimate(r, name, split) for r in records]
        return _Column(*(np.array([getattr(e, part) for e in found], dtype=np.float64) for part in ("value", "low", "high")))

    def _losses(self, records: Sequence[TrialRecord], objectives: Sequence[tuple[str, Metric]], split: Split) -> NDArray[np.float64]:
        signs = np.array([metric.minimised(1.0) for _, metric in objectives], dtype=np.float64)
        return np.multiply(self._values(records, objectives, split), signs, dtype=np.float64)

    def _values(self, records: Sequence[TrialRecord], objectives: Sequence[tuple[str, Metric]], split: Split) -> NDArray[np.float64]:
        columns = [self._column(records, name, split).value for name, _ in objectives]
        return np.stack(columns, axis=1) if records else np.empty((0, len(objectives)))

    # Candidates

    def split(self, split: Split = "report") -> Split:
        """``split``, or ``search`` where nothing was evaluated on ``report`` yet."""
        if split not in ("report", "search"):
            raise UserError(f"unknown split {split!r}; accepted: report, search")
        return "report" if split == "report" and any(r.report for r in self.records) else "search"

    def feasible(self, records: Sequence[TrialRecord], split: Split = "report") -> NDArray[np.bool_]:
        """Which records keep every constraint of the experiment, judged within one split, ``[records]``. Those that failed do not."""
        kept = np.array([r.status == "ok" for r in records], dtype=np.bool_)
        for constraint in self.experiment.parsed_constraints:
            if constraint.names_baseline and self.uncompressed is None:
                continue
            baseline = {n: self._estimate(self.uncompressed, n, split) for n in constraint.names} if self.uncompressed else None
            kept &= np.asarray(constraint.satisfied({n: self._column(records, n, split) for n in constraint.names}, baseline)).reshape(-1)[: len(records)]
        return kept

    def _ranked(self, objectives: Sequence[tuple[str, Metric]], where: str | None, split: Split) -> tuple[list[TrialRecord], NDArray[np.float64]]:
        """Every record that may be on the front, the uncompressed model and other baselines included, and its objectives."""
        records = [r for r in self.records if r.status == "ok" and r.replicate == 0 and r.rung >= 1 and (split == "search" or r.report)]
        demoted = {r.id for r in self.demoted}
        records = [r for r in records if r.id not in demoted]
        kept = self.feasible(records, split)
        if where and records:
            values, baseline = self._where_values(records, split)
            for constraint in parse_where(where, self.experiment.names):
                kept &= np.asarray(constraint.satisfied(values, baseline)).reshape(-1)
        records = [r for r, keep in zip(records, kept, strict=True) if keep]
        return records, self._losses(records, objectives, split)

    def _where_values(self, records: Sequence[TrialRecord], split: Split) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
        """Plain values, not the conservative ends of intervals: people filter by the figures they see."""
        names = self.experiment.names.all
        baseline = {n: self._estimate(self.uncompressed, n, split).value for n in names} if self.uncompressed else {n: float("nan") for n in names}
        return {n: self._column(records, n, split).value for n in names}, baseline

    def front_records(self, *metrics: str, device: str | None = None, where: str | None = None, split: Split = "report") -> tuple[TrialRecord, ...]:
        """The records on the front, best first in its first metric, then in the next ones. Arguments as for ``front``."""
        objectives = self.objectives(*metrics, device=device)
        records, losses = self._ranked(objectives, where, self.split(split))
        rows = np.flatnonzero(non_dominated(losses))
        return tuple(records[i] for i in sorted(rows.tolist(), key=lambda i: (*losses[i].tolist(), records[i].id)))

    # Data frames

    def front(
        self, *metrics: str, device: str | None = None, where: str | None = None, split: Split = "report", baselines: bool = False, everything: bool = False
    ) -> pd.DataFrame:
        """The Pareto front, a row a point, best first in the first metric.

        Args:
            metrics: what to trade, such as ``"accuracy", "latency_ms@raspberry-pi-5"``; the experiment's objectives where none is given.
            device: the experiment's objectives, on this device instead.
            where: which points are asked for, such as ``"latency_ms@raspberry-pi-5 <= 10 and accuracy >= baseline - 0.01"``.
            split: ``report``, or ``search`` to see what the search saw.
            baselines: also the baselines that are not on the front, and points that were demoted, below it.
            everything: columns for every metric, not only for those that are traded.

        Returns:
            Columns ``id``, ``baseline`` (its name, or None), ``on_front``, ``knee``; for each metric its value and ``_low``, ``_high`` (90 %) and ``_tier``;
            ``dominates``: the baselines that it dominates; ``recipe``: plain steps; ``verdict`` of its artifact (empty: not verified), ``reasons``, and for
            each metric that can be measured here its ``_found``. ``.attrs`` has ``split``, ``metrics``.

        Raises:
            UserError: an unknown metric, device or split, or a ``where`` that cannot be read.
        """
        used = self.split(split)
        objectives = self.objectives(*metrics, device=device)
        names = [name for name, _ in objectives]
        records = list(self.front_records(*metrics, device=device, where=where, split=split))
        on_front = len(records)
        best = knee(self._losses(records, objectives, used))
        if baselines:
            records += [r for r in self.records if r.baseline and r.status == "ok" and r not in records]
            records += [r for r in self.demoted if r not in records]
        shown = list(dict.fromkeys([*names, *(self.available() if everything else ())]))
        frame = self._frame(records, shown, used)
        frame.insert(2, "on_front", [i < on_front for i in range(len(records))])
        frame.insert(3, "knee", [i == best for i in range(len(records))])
        demoted = {r.id for r in self.demoted}
        beaten = [() if r.id in demoted else self.dominated_baselines(r.id, *names, split=split) for r in records]
        frame["dominates"] = pd.Series([list(names) for names in beaten], dtype=object)
        frame["recipe"] = pd.Series([r.recipe for r in records], dtype=object)
        checked = [self.verified.get(r.id) for r in records]
        frame["verdict"] = pd.Series([v.verdict if v else "" for v in checked], dtype=object)
        frame["reasons"] = pd.Series([list(v.reasons) if v else [] for v in checked], dtype=object)
        for name in (name for name in shown if name in self.measurable):
            frame[f"{name}_found"] = [v.found.get(name, np.nan) if v else np.nan for v in checked]
        frame.attrs = {"split": used, "metrics": names}
        return frame

    def trials(self, split: Split = "search") -> pd.DataFrame:
        """Every proposed trial, failed ones included: status, reason, metrics, point of the search space, effort and recipe."""
        return self._details([r for r in self.records if r.baseline is None], split)

    def baselines(self, split: Split = "report") -> pd.DataFrame:
        """Every uniform baseline, the uncompressed model included; columns as in ``trials``."""
        return self._details([r for r in self.records if r.baseline is not None], self.split(split))

    def _details(self, records: Sequence[TrialRecord], split: Split) -> pd.DataFrame:
        frame = self._frame(records, self.available(), split)
        frame.insert(2, "status", [r.status for r in records])
        frame.insert(3, "reason", [r.reason for r in records])
        frame.insert(4, "feasible", self.feasible(records, split))
        points = [r.values for r in records]  # noqa: PD011 - a record's field
        for dimension in dict.fromkeys(name for point in points for name in point):
            frame[dimension] = [point.get(dimension) for point in points]
        for name in ("seconds", "attempts", "rung", "replicate", "recipe"):
            frame[name] = [getattr(r, name) for r in records]
        frame.attrs = {"split": split}
        return frame

    def _frame(self, records: Sequence[TrialRecord], names: Sequence[str], split: Split) -> pd.DataFrame:
        frame = pd.DataFrame({"id": [r.id for r in records], "baseline": pd.Series([r.baseline for r in records], dtype=object)})
        for name in names:
            found = [self._estimate(r, name, split) for r in records]
            frame[name] = [e.value for e in found]
            frame[f"{name}_low"] = [e.low for e in found]
            frame[f"{name}_high"] = [e.high for e in found]
            frame[f"{name}_tier"] = [e.tier for e in found]
        return frame

    def widths(self, trial: str) -> pd.DataFrame:
        """Units before and after of every axis that the trial changed: columns ``axis``, ``before``, ``after``."""
        rows = [(axis, before, after) for axis, (before, after) in self.record(trial).widths.items()]
        return pd.DataFrame(rows, columns=["axis", "before", "after"])

    # Comparisons

    def dominated_baselines(self, trial: str, *metrics: str, split: Split = "report") -> tuple[str, ...]:
        """Names of the baselines that are nowhere better than the trial, and somewhere worse. Equal arguments as for ``front``."""
        used, objectives = self.split(split), self.objectives(*metrics)
        others = [r for r in self.records if r.baseline and r.status == "ok"]
        beaten = dominates(self._losses([self.record(trial)], objectives, used), self._losses(others, objectives, used))
        return tuple(str(r.baseline) for r, loses in zip(others, beaten, strict=True) if loses)

    def hypervolume(self, *metrics: str, device: str | None = None, split: Split = "report", which: Literal["front", "baselines"] = "front") -> float:
        """Hypervolume of the front, or of the baselines alone; larger is better.

        In units of the box from the worst that the constraints allow, or else the baselines' worst, to the baselines' best (``search.box.Box``), so that
        values of one experiment can be compared whatever its search found; 1 is a point that unites the best values of all baselines. Costs count by ratios.
        NaN before any baseline has ended.
        """
        used, objectives = self.split(split), self.objectives(*metrics, device=device)
        anchors = self._values([r for r in self.records if r.baseline and r.status == "ok"], objectives, used)
        anchors = anchors[~np.isnan(anchors).any(axis=1)]
        if not len(anchors) or self.uncompressed is None:
            return float("nan")
        uncompressed = {name: self._estimate(self.uncompressed, name, used) for name in self.experiment.names.all}
        box = Box.of(objectives, anchors, uncompressed, self.experiment.parsed_constraints)
        records, _ = self._ranked(objectives, None, used)
        if which == "baselines":
            records = [r for r in records if r.baseline is not None]
        return box.hypervolume(self._values(records, objectives, used))

    def pick(self, text: str = "knee", *metrics: str, device: str | None = None, where: str | None = None, split: Split = "report") -> str:
        """Id of one point of the front: ``knee``, ``min METRIC`` or ``max METRIC``, each with ``where ...``.

        Raises:
            UserError: an expression that cannot be read, or that no point of the front keeps.
        """
        used, objectives = self.split(split), self.objectives(*metrics, device=device)
        pick = parse_pick(text, self.experiment.names)
        records = list(self.front_records(*metrics, device=device, where=where, split=split))
        values, baseline = self._where_values(records, used)
        if pick.name is None:
            records = [r for r, keep in zip(records, pick.allowed(values, len(records), baseline), strict=True) if keep]
            row = knee(self._losses(records, objectives, used))
        else:
            row = pick.best(values, len(records), baseline)
        if row is None:
            raise UserError(f"no point of the front of study {self.name!r} keeps {text!r}; see: compareto front {self.name}")
        return records[row].id

    def statuses(self) -> dict[str, int]:
        """How many proposed trials ended in which way."""
        found = [r.status for r in self.records if r.baseline is None]
        return {status: found.count(status) for status in dict.fromkeys(found)}

    def summary(self, trial: str | None = None) -> str:
        """One line: a trial against the uncompressed model, such as ``parameters -38 %, latency 0.62x, accuracy -0.4 points``; the knee where None."""
        front = self.front_records()
        if trial is None and not front:
            return "no point of the front yet"
        record = self.record(trial) if trial is not None else self.record(self.pick("knee"))
        if self.uncompressed is None:
            return "the uncompressed model was not evaluated"
        wanted = ["parameters", *(n for n in self.experiment.objectives if n != "parameters")]
        if not any(n.partition("@")[0] in PREDICTED for n in wanted) and self.experiment.devices:
            wanted.append(f"latency_ms@{self.experiment.devices[0]}")
        split = self.split() if record.report else "search"
        several = len({n for n in wanted if "@" in n}) != len({short_name(n) for n in wanted if "@" in n})
        parts = []
        for name in wanted:
            before, after = self._estimate(self.uncompressed, name, split).value, self._estimate(record, name, split).value
            if np.isfinite([before, after]).all():
                where = f" on {name.partition('@')[2]}" if several and "@" in name else ""
                parts.append(change(self.experiment.names.resolve(name)[1], before, after) + where)
        return ", ".join(parts)
