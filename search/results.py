"""What a study found: its records, the fronts among them, hypervolumes, and one point of a front."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from compressors.errors import UserError
from evaluators.devices.device_model import PREDICTED
from evaluators.metric import Metric
from search.box import Box
from search.comparing import dominated_baselines, summary
from search.experiment import Experiment
from search.expressions import parse_pick, parse_where
from search.judging import UNCOMPRESSED, Judged, Objectives, Split
from search.metric_names import listed_device
from search.pareto import knee, non_dominated
from search.record import TrialRecord
from search.study_files import EXPERIMENT, STORAGE, find_study, read_records, read_replicates
from search.verification import measurable, read_verifications

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["UNCOMPRESSED", "Results", "Split"]


@dataclass(frozen=True)
class Results(Judged):
    """The records of a study and what follows from them.

    A front is judged on ``report``: among the points that were re-evaluated there, which are the front on ``search`` and the baselines. Where nothing was
    yet, it is judged on ``search``, and says so (``.attrs["split"]``). Costs do not depend on a split. Points that failed, that break a constraint of the
    experiment, or whose artifact did not keep its promise (``verified``, by id) are never on a front.

    Where an objective means each of several devices, there is a front for each: ``front`` without a device is all of their points, ``hypervolume`` the mean,
    and the knee that of the first device.

    Attributes:
        replicates: of published points with other seeds, on ``report``, by the point's id; those that failed among them.
        memory_bytes: of devices that were not in the study, see ``on``: what does not fit is on none of their fronts.
    """

    @classmethod
    def load(cls, study: str | Path, storage: str | Path = STORAGE) -> Self:
        """The results of a study, by its name or folder; also of one that still runs.

        Raises:
            UserError: there is no such study, or one of its files is not valid.
        """
        folder = find_study(study, storage)
        return cls(Experiment.frozen(folder / EXPERIMENT), read_records(folder), folder, read_verifications(folder), read_replicates(folder))

    def on(self, device: str) -> Results:
        """The same study about one device: its predicted objectives are moved there.

        Args:
            device: one of the study's, or any other, on which every trial is priced now. Names may be abbreviated.

        Raises:
            UserError: an unknown device; or one that is not of the study, whose records do not say what they take to be priced.
        """
        from search.late_device import priced

        listed = self.experiment.devices
        if device in {short for key in listed for short in (key, key.partition("/")[0], key.partition("/")[0].partition(".")[0])}:
            return replace(self, experiment=self.experiment.on(listed_device(device, listed)))
        return priced(self, device)

    @cached_property
    def measurable(self) -> tuple[str, ...]:
        """Names of the metrics that a verification finds."""
        return measurable(self.experiment)

    # Metrics

    def objectives(self, *metrics: str, device: str | None = None) -> tuple[tuple[str, Metric], ...]:
        """Canonical name and metric of each of ``metrics``; of the experiment's objectives, on every device that they mean, where none is given.

        Args:
            metrics: ``accuracy``, ``latency_ms@raspberry-pi-5``; devices may be abbreviated.
            device: moves predicted metrics of the experiment's objectives to this device, or adds its latency where there are none.

        Raises:
            UserError: an unknown metric or device.
        """
        if metrics:
            return tuple(self.experiment.names.resolve(name) for name in dict.fromkeys(metrics))
        if device is None:
            return self.experiment.objective_metrics
        return self.experiment.on(listed_device(device, self.experiment.devices)).objective_metrics

    def fronts(self, *metrics: str, device: str | None = None) -> dict[str, tuple[tuple[str, Metric], ...]]:
        """What each front trades: by device where an objective means each of several; else there is one, under an empty name. Arguments as for ``front``."""
        return {"": self.objectives(*metrics, device=device)} if metrics or device is not None else self.experiment.fronts

    def needs_device(self, name: str) -> bool:
        """Whether a metric is predicted for a device and ``name`` leaves open for which."""
        return name in PREDICTED

    def available(self) -> tuple[str, ...]:
        """Canonical names of every metric that some record has, objectives first."""
        known = {name for record in self.records for name in record.metrics}
        wanted = (*(name for name, _ in self.experiment.objective_metrics), *self.experiment.names.all)
        return tuple(dict.fromkeys(name for name in wanted if name in known))

    def ranked_front(self, objectives: Objectives, where: str | None = None, split: Split = "report") -> tuple[TrialRecord, ...]:
        """The records that nothing dominates in ``objectives``, best first in the first of them, then in the next ones."""
        used = self.split(split)
        if where:
            parse_where(where, self.experiment.names)
        records = self.candidates(where, used)
        losses = self.losses(records, objectives, used)
        rows = np.flatnonzero(non_dominated(losses))
        return tuple(records[i] for i in sorted(rows.tolist(), key=lambda i: (*losses[i].tolist(), records[i].id)))

    def front_records(self, *metrics: str, device: str | None = None, where: str | None = None, split: Split = "report") -> tuple[TrialRecord, ...]:
        """The records on the front (on any of several), best first in its first metric, then in the next ones. Arguments as for ``front``."""
        fronts = list(self.fronts(*metrics, device=device).values())
        found = {r.id: r for objectives in fronts for r in self.ranked_front(objectives, where, split)}
        if len(fronts) == 1:
            return tuple(found.values())
        records = list(found.values())
        losses = self.losses(records, self.objectives(), self.split(split))
        return tuple(records[i] for i in sorted(range(len(records)), key=lambda i: (*losses[i].tolist(), records[i].id)))

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
            Columns ``id``, ``baseline`` (its name, or None), ``on_front``, ``knee``; ``devices``: where several have a front, those on whose it is;
            ``tied``: points that are cheaper in every cost and not significantly worse (``search.ties``); for each metric its value and ``_low``, ``_high``
            (90 %) and ``_tier``; ``seeds``: how many were tried, ``unstable``: why others of them failed, and of quality the ``_mean`` over them;
            ``dominates``: the baselines that it dominates; ``recipe``: plain steps; ``verdict`` of its artifact (empty: not verified), ``reasons``, and for
            each metric that can be measured here its ``_found``. ``.attrs`` has ``split``, ``metrics``.

        Raises:
            UserError: an unknown metric, device or split, or a ``where`` that cannot be read.
        """
        from search.frames import front_frame

        return front_frame(self, metrics, device, where, split, baselines=baselines, everything=everything)

    def trials(self, split: Split = "search") -> pd.DataFrame:
        """Every proposed trial, failed ones included: status, reason, metrics, point of the search space, effort and recipe."""
        from search.frames import details_frame

        return details_frame(self, [r for r in self.records if r.baseline is None], split)

    def baselines(self, split: Split = "report") -> pd.DataFrame:
        """Every uniform baseline, the uncompressed model included; columns as in ``trials``."""
        from search.frames import details_frame

        return details_frame(self, [r for r in self.records if r.baseline is not None], self.split(split))

    def widths(self, trial: str) -> pd.DataFrame:
        """Units before and after of every axis that the trial changed: columns ``axis``, ``before``, ``after``."""
        from search.frames import widths_frame

        return widths_frame(self, trial)

    # Comparisons

    def dominated_baselines(self, trial: str, *metrics: str, split: Split = "report") -> tuple[str, ...]:
        """Names of the baselines that are nowhere better than the trial, and somewhere worse. Equal arguments as for ``front``."""
        return dominated_baselines(self, self.record(trial), self.objectives(*metrics), self.split(split))

    def hypervolume(self, *metrics: str, device: str | None = None, split: Split = "report", which: Literal["front", "baselines"] = "front") -> float:
        """Hypervolume of the front, or of the baselines alone; larger is better. The mean over devices where there are several fronts.

        In units of the box from the worst that the constraints allow, or else the baselines' worst, to the baselines' best (``search.box.Box``), so that
        values of one experiment can be compared whatever its search found; 1 is a point that unites the best values of all baselines. Costs count by ratios.
        NaN before any baseline has ended.
        """
        used = self.split(split)
        candidates = [r for r in self.candidates(None, used) if which == "front" or r.baseline is not None]
        return float(np.mean([self._volume(candidates, traded, used) for traded in self.fronts(*metrics, device=device).values()]))

    def _volume(self, candidates: Sequence[TrialRecord], objectives: Objectives, split: Split) -> float:
        anchors = self.figures([r for r in self.records if r.baseline and r.status == "ok"], objectives, split)
        anchors = anchors[~np.isnan(anchors).any(axis=1)]
        if not len(anchors) or self.uncompressed is None:
            return float("nan")
        uncompressed = {name: self.estimate(self.uncompressed, name, split) for name in self.experiment.names.all}
        box = Box.of(objectives, anchors, uncompressed, self.experiment.parsed_constraints)
        return box.hypervolume(self.figures(candidates, objectives, split))

    def pick(self, text: str = "knee", *metrics: str, device: str | None = None, where: str | None = None, split: Split = "report") -> str:
        """Id of one point of the front (the first device's, where there are several): ``knee``, ``min METRIC`` or ``max METRIC``, each with ``where ...``.

        Raises:
            UserError: an expression that cannot be read, or that no point of the front keeps.
        """
        used, objectives = self.split(split), next(iter(self.fronts(*metrics, device=device).values()))
        pick = parse_pick(text, self.experiment.names)
        records = list(self.ranked_front(objectives, where, split))
        values, baseline = self.where_figures(records, used)
        if pick.name is None:
            records = [r for r, keep in zip(records, pick.allowed(values, len(records), baseline), strict=True) if keep]
            row = knee(self.losses(records, objectives, used))
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
        if trial is None and not self.front_records():
            return "no point of the front yet"
        return summary(self, self.record(self.pick("knee") if trial is None else trial))
