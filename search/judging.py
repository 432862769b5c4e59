"""Records as they are judged: estimates on a split, constraints, and who may be on a front at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.metric import Estimate, Metric
from search.experiment import Experiment
from search.expressions import parse_where
from search.record import TrialRecord
from search.replicates import Seeds, seeds_of, with_spread
from search.verification import Verification

__all__ = ["UNCOMPRESSED", "Judged", "Objectives", "Split"]

Split = Literal["report", "search"]
Objectives = Sequence[tuple[str, Metric]]
"""Canonical names and metrics."""

UNCOMPRESSED = "fp32"
"""The baseline that everything is compared with."""

_NOTHING = Estimate(float("nan"), float("nan"), float("nan"), "")


class _Column(NamedTuple):
    """A metric of many candidates, ``[candidates]`` each."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """Records of an experiment; see ``search.results.Results``."""

    experiment: Experiment
    records: tuple[TrialRecord, ...]
    folder: Path | None = None
    verified: Mapping[str, Verification] = field(default_factory=dict)
    replicates: Mapping[str, tuple[TrialRecord, ...]] = field(default_factory=dict)
    memory_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The study's name."""
        return self.folder.resolve().name if self.folder else self.experiment.name

    @cached_property
    def _by_id(self) -> dict[str, TrialRecord]:
        return {**{r.baseline: r for r in self.records if r.baseline}, **{r.id: r for r in self.records}}

    def record(self, trial: str) -> TrialRecord:
        """The record of an id; baselines also by their short names, such as ``int8``.

        Raises:
            UserError: there is none.
        """
        padded = trial.zfill(4) if trial.isdigit() else trial
        if padded not in self._by_id:
            ids = [r.id for r in self.records]
            shown = ", ".join(ids[:12]) + (", ..." if len(ids) > 12 else "")
            raise UserError(f"study {self.name!r} has no trial {trial!r}; accepted: {shown or 'none: nothing has ended yet'}{near_miss(trial, ids)}")
        return self._by_id[padded]

    @cached_property
    def uncompressed(self) -> TrialRecord | None:
        """The record of the uncompressed model; None before it was evaluated."""
        return next((r for r in self.records if r.baseline == UNCOMPRESSED and r.status == "ok"), None)

    @property
    def demoted(self) -> tuple[TrialRecord, ...]:
        """Records whose artifact did not keep its promise: ``verified`` says why."""
        return tuple(r for r in self.records if r.id in self.verified and self.verified[r.id].demoted)

    def seeds(self, record: TrialRecord) -> Seeds | None:
        """What other seeds gave of a published point; None where none were tried."""
        return self._seeds.get(record.id)

    @cached_property
    def _quality(self) -> frozenset[str]:
        return frozenset(m.name for m in self.experiment.names.quality)

    @cached_property
    def _is_published(self) -> bool:
        return any(r.report for r in self.records)

    @cached_property
    def _seeds(self) -> dict[str, Seeds]:
        return {trial: seeds_of(self._by_id[trial], others) for trial, others in self.replicates.items() if trial in self._by_id}

    @cached_property
    def _published(self) -> dict[str, dict[str, Estimate]]:
        return with_spread({r.id: r.report for r in self.records if r.report}, self._seeds, [m.name for m in self.experiment.names.quality])

    def estimate(self, record: TrialRecord, name: str, split: Split) -> Estimate:
        """A record's metric on a split, NaN where unknown; on ``report`` its interval covers the spread between seeds where that is known."""
        if split == "report" and name in record.report:
            return self._published.get(record.id, record.report)[name]
        observed = name in self._quality
        return record.metrics.get(name, _NOTHING) if split == "search" or not observed else _NOTHING

    def _column(self, records: Sequence[TrialRecord], name: str, split: Split) -> _Column:
        found = [self.estimate(r, name, split) for r in records]
        return _Column(*(np.array([getattr(e, part) for e in found], dtype=np.float64) for part in ("value", "low", "high")))

    def losses(self, records: Sequence[TrialRecord], objectives: Objectives, split: Split) -> NDArray[np.float64]:
        """``[records, objectives]``, smaller is better."""
        signs = np.array([metric.minimised(1.0) for _, metric in objectives], dtype=np.float64)
        return np.multiply(self.figures(records, objectives, split), signs, dtype=np.float64)

    def figures(self, records: Sequence[TrialRecord], objectives: Objectives, split: Split) -> NDArray[np.float64]:
        """``[records, objectives]``, as they are."""
        columns = [self._column(records, name, split).value for name, _ in objectives]
        return np.stack(columns, axis=1) if records else np.empty((0, len(objectives)))

    def split(self, split: Split = "report") -> Split:
        """``split``, or ``search`` where nothing was evaluated on ``report`` yet."""
        if split not in ("report", "search"):
            raise UserError(f"unknown split {split!r}; accepted: report, search")
        return "report" if split == "report" and self._is_published else "search"

    def feasible(self, records: Sequence[TrialRecord], split: Split = "report") -> NDArray[np.bool_]:
        """Which records keep every constraint of the experiment, judged within one split, ``[records]``. Those that failed do not."""
        kept = np.array([r.status == "ok" for r in records], dtype=np.bool_)
        for constraint in self.experiment.parsed_constraints:
            if constraint.names_baseline and self.uncompressed is None:
                continue
            baseline = {n: self.estimate(self.uncompressed, n, split) for n in constraint.names} if self.uncompressed else None
            kept &= np.asarray(constraint.satisfied({n: self._column(records, n, split) for n in constraint.names}, baseline)).reshape(-1)[: len(records)]
        for device, limit in self.memory_bytes.items():
            kept &= self._column(records, f"peak_memory_bytes@{device}", split).value <= limit
        return kept

    def candidates(self, where: str | None, split: Split) -> list[TrialRecord]:
        """Every record that may be on a front, the uncompressed model and other baselines included."""
        records = [r for r in self.records if r.status == "ok" and r.replicate == 0 and r.rung >= 1 and (split == "search" or r.report)]
        demoted = {r.id for r in self.demoted}
        records = [r for r in records if r.id not in demoted]
        kept = self.feasible(records, split)
        if where and records:
            values, baseline = self.where_figures(records, split)
            for constraint in parse_where(where, self.experiment.names):
                kept &= np.asarray(constraint.satisfied(values, baseline)).reshape(-1)
        return [r for r, keep in zip(records, kept, strict=True) if keep]

    def where_figures(self, records: Sequence[TrialRecord], split: Split) -> tuple[dict[str, NDArray[np.float64]], dict[str, float]]:
        """Plain values, not the conservative ends of intervals: people filter by the figures they see."""
        names = self.experiment.names.all
        baseline = {n: self.estimate(self.uncompressed, n, split).value for n in names} if self.uncompressed else {n: float("nan") for n in names}
        return {n: self._column(records, n, split).value for n in names}, baseline
