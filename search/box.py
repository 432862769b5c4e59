"""The box in which points of an experiment count: what hypervolume is measured in, and what the search tries to fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import Estimate, Metric
from search.constraint import Constraint
from search.pareto import hypervolume, reference_box

__all__ = ["Box", "axis"]

_LEVELS = 1001
_SMALLEST = 1e-12


def axis(metric: Metric, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Coordinates of values, smaller is better: costs by their logarithm to base 2, since half the bytes are worth as much at 20 kB as at 20 MB."""
    if metric.knowledge == "observed":
        return np.asarray(values * metric.minimised(1.0), dtype=np.float64)
    return np.asarray(metric.minimised(1.0) * np.log2(np.maximum(values, _SMALLEST)), dtype=np.float64)


@dataclass(frozen=True)
class Box:
    """From what is of no use any more to the best that the uniform baselines offer.

    Attributes:
        objectives: names and metrics of the columns.
        reference: ``[objectives]``, in the coordinates of ``axis``.
        scale: ``[objectives]``: edge lengths.
    """

    objectives: tuple[tuple[str, Metric], ...]
    reference: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        objectives: Sequence[tuple[str, Metric]],
        baselines: NDArray[np.float64],
        uncompressed: Mapping[str, Estimate],
        constraints: Sequence[Constraint],
    ) -> Box:
        """Box of an experiment.

        Args:
            objectives: names and metrics of the columns.
            baselines: ``[baselines, objectives]`` values as they are; the uncompressed model is one of them.
            uncompressed: metrics of the uncompressed model, for constraints that compare with it.
            constraints: where they bound one observed objective below what the baselines reach, points count down to there.
        """
        anchors = np.stack([axis(metric, baselines[:, i]) for i, (_, metric) in enumerate(objectives)], axis=1)
        reference, scale = reference_box(anchors)
        best = reference - scale
        for i, (name, metric) in enumerate(objectives):
            bounds = [c for c in constraints if set(c.names) == {name}]
            if metric.knowledge == "observed" and bounds:
                reference[i] = _worst_allowed(name, metric, float(best[i]), bounds, uncompressed)
        return cls(tuple(objectives), reference, reference - best)

    def coordinates(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """``[points, objectives]`` values as coordinates."""
        return np.stack([axis(metric, values[:, i]) for i, (_, metric) in enumerate(self.objectives)], axis=1)

    def hypervolume(self, values: NDArray[np.float64]) -> float:
        """Of ``[points, objectives]`` values, in units of the box: 1 is a point that unites the best values of all baselines."""
        return hypervolume(self.coordinates(values), self.reference) / float(np.prod(self.scale))


def _worst_allowed(name: str, metric: Metric, best: float, bounds: Sequence[Constraint], uncompressed: Mapping[str, Estimate]) -> float:
    """The largest loss that keeps every bound, found from the best outward: bounds on one metric leave an interval."""
    sign = metric.minimised(1.0)

    def allowed(loss: float) -> bool:
        return all(c.satisfied({name: sign * loss}, uncompressed) for c in bounds)

    step = 1e-3 * max(abs(best), 1e-3)
    if not allowed(best):
        return best + step
    low, high = best, best + step
    while allowed(high) and high - best < 1e3 * step:
        low, high = high, best + 2 * (high - best)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low
