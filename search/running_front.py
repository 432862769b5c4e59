"""The front of a search that runs: each record is taken in as it ends, in steps of the front's size, and nothing else of it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import Estimate, Metric
from search.box import Box
from search.experiment import Experiment
from search.judging import UNCOMPRESSED
from search.pareto import dominates, hypervolume
from search.record import TrialRecord

__all__ = ["RunningFront"]

_NOTHING = Estimate(float("nan"), float("nan"), float("nan"), "")
_Array = NDArray[np.float64]


class RunningFront:
    """Size and hypervolume of a study's front on ``search``, equal to those of ``Results`` of the same records.

    Args:
        experiment: its objectives and constraints.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._constraints = experiment.parsed_constraints
        needed = [name for name, _ in experiment.objective_metrics]
        self._needed = tuple(dict.fromkeys([*needed, *(name for constraint in self._constraints for name in constraint.names)]))
        self._baselines: dict[str, Mapping[str, Estimate]] = {}
        self._trials: list[Mapping[str, Estimate]] = []
        self._fronts = [_Front(objectives) for objectives in experiment.fronts.values()]

    def add(self, record: TrialRecord) -> None:
        """Take in a record that has ended. Those that failed, replicates and parts of a training count for nothing."""
        if record.status != "ok":
            return
        metrics = {name: record.metrics.get(name, _NOTHING) for name in self._needed}
        if record.baseline is not None:
            # What is compared with, and the box in which points count, may be other ones now.
            self._baselines[record.baseline] = metrics
            self._start_again()
        elif record.replicate == 0 and record.rung >= 1:
            self._trials.append(metrics)
            self._take(len(self._trials) - 1, metrics)

    @property
    def size(self) -> int:
        """Trials on the front; baselines do not count."""
        return len({row for front in self._fronts for row in front.rows if row >= 0})

    @property
    def hypervolume(self) -> float:
        """As of ``Results.hypervolume(split="search")``; NaN before the uncompressed model has ended."""
        return float(np.mean([front.volume for front in self._fronts]))

    def _start_again(self) -> None:
        uncompressed = self._baselines.get(UNCOMPRESSED)
        for front in self._fronts:
            front.clear(list(self._baselines.values()), uncompressed, self._experiment)
        for metrics in self._baselines.values():
            self._take(-1, metrics)
        for row, metrics in enumerate(self._trials):
            self._take(row, metrics)

    def _take(self, row: int, metrics: Mapping[str, Estimate]) -> None:
        uncompressed = self._baselines.get(UNCOMPRESSED)
        judged = [c for c in self._constraints if not c.names_baseline or uncompressed is not None]
        if all(c.satisfied(metrics, uncompressed) for c in judged):
            for front in self._fronts:
                front.take(row, metrics)


class _Front:
    """One front: rows that nothing dominates, and the volume that they dominate in the box."""

    def __init__(self, objectives: Sequence[tuple[str, Metric]]) -> None:
        self._objectives = objectives
        self._signs = np.array([metric.minimised(1.0) for _, metric in objectives], dtype=np.float64)
        self.rows: list[int] = []
        self.volume = float("nan")
        self._losses: _Array = np.empty((0, len(objectives)))
        self._box: Box | None = None

    def clear(self, baselines: Sequence[Mapping[str, Estimate]], uncompressed: Mapping[str, Estimate] | None, experiment: Experiment) -> None:
        """Empty, in the box of these baselines."""
        anchors = np.stack([self._values(metrics) for metrics in baselines])
        anchors = anchors[~np.isnan(anchors).any(axis=1)]
        known = len(anchors) > 0 and uncompressed is not None
        self.rows, self._losses = [], self._losses[:0]
        self._box = Box.of(self._objectives, anchors, uncompressed or {}, experiment.parsed_constraints) if known else None
        self.volume = 0.0 if known else float("nan")

    def take(self, row: int, metrics: Mapping[str, Estimate]) -> None:
        """A candidate that keeps every constraint."""
        values = self._values(metrics)
        losses = values * self._signs
        if np.isnan(losses).any() or dominates(self._losses, losses).any():
            return
        if self._box is not None:
            self.volume += self._gain(values)
        kept = ~dominates(losses, self._losses)
        self.rows = [*(r for r, keep in zip(self.rows, kept, strict=True) if keep), row]
        self._losses = np.concatenate([self._losses[kept], losses[None]])

    def _gain(self, values: _Array) -> float:
        """What a point adds: its own volume without the part of it that the front dominates already."""
        assert self._box is not None
        point = self._box.coordinates(values[None])[0]
        if not (point < self._box.reference).all():
            return 0.0
        own = float(np.prod(self._box.reference - point))
        shared = np.maximum(self._box.coordinates(self._losses * self._signs), point)
        return (own - hypervolume(shared, self._box.reference)) / float(np.prod(self._box.scale))

    def _values(self, metrics: Mapping[str, Estimate]) -> _Array:
        return np.array([metrics[name].value for name, _ in self._objectives], dtype=np.float64)
