"""Expected hypervolume improvement where costs are known exactly, in closed form.

What the front leaves free is cut into boxes: an interval of each cost and one of quality. A candidate's costs clip a box to a known area, and its expected gain
there is the difference of two expected improvements [Jones1998]. With at most two costs a sweep along quality yields two boxes for each point of the front, as
in [Yang2019]; with more, all cells between the front's costs are taken. Where costs are modelled as well, as there, trials are spent on learning arithmetic.

[Jones1998] D. R. Jones, M. Schonlau, W. J. Welch. Efficient global optimization of expensive black-box functions. J. Global Optimization 13, 1998.
[Yang2019] K. Yang, M. Emmerich, A. Deutz, T. Bäck. Efficient computation of expected hypervolume improvement using box decomposition algorithms. J. Global
    Optimization 75, 2019.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

__all__ = ["expected_improvement"]

_Array = NDArray[np.float64]
_CELLS = 5_000
_ROWS = 256
"""Candidates at a time: their boxes stay in the processor's caches."""


def expected_improvement(costs: _Array, mean: _Array, deviation: _Array, front: _Array, reference: _Array, scale: _Array) -> _Array:
    """Expected gain in hypervolume of each candidate, in units of the box ``scale``.

    Args:
        costs: ``[candidates, k]`` known costs, smaller is better.
        mean: ``[candidates]`` expected quality, larger is better.
        deviation: ``[candidates]`` its standard deviation.
        front: ``[points, k + 1]``: costs and *negated* quality of what is there; dominated points do no harm.
        reference: ``[k + 1]``: costs and negated quality that are no use any more.
        scale: ``[k + 1]`` edge lengths.

    Returns:
        ``[candidates]``, 0 where a cost exceeds the reference or is NaN.
    """
    k = costs.shape[1]
    inside = front[(front < reference).all(axis=1)]
    if k < 2:
        # Costs that all share cut nothing.
        costs = np.column_stack([costs, np.zeros((len(costs), 2 - k))])
        inside = np.column_stack([inside[:, :k], np.zeros((len(inside), 2 - k)), inside[:, k:]])
        reference, scale = (np.concatenate([v[:k], np.ones(2 - k), v[k:]]) for v in (reference, scale))
    lows, highs, floors, tops = _swept(inside, reference) if k <= 2 else _cells(inside, reference)
    levels, where = np.unique(np.concatenate([floors, tops]), return_inverse=True)
    floor, top = where[: len(floors)], where[len(floors) :]
    gains = []
    for start in range(0, len(costs), _ROWS):
        rows = slice(start, start + _ROWS)
        deviations = deviation[rows, None]
        # The last level is infinity, above which nothing is expected.
        z = (mean[rows, None] - levels[:-1]) / deviations
        above = deviations * (z * ndtr(z) + np.exp(-0.5 * z**2) / (2 * np.pi) ** 0.5)
        above = np.column_stack([above, np.zeros(len(above))])
        gain = above[:, floor] - above[:, top]
        for i in range(costs.shape[1]):
            gain *= np.maximum(highs[:, i] - np.maximum(lows[:, i], costs[rows, i : i + 1]), 0.0)
        gains.append(np.nan_to_num(gain.sum(axis=1), nan=0.0))
    total: _Array = np.concatenate(gains) / np.prod(scale) if gains else np.zeros(0)
    return total


def _swept(front: _Array, reference: _Array) -> tuple[_Array, _Array, _Array, _Array]:
    """Boxes of two costs: lowest and highest costs, ``[boxes, 2]`` each, and qualities from and to which they are free, ``[boxes]`` each.

    From the best quality down, each point lowers a staircase: up to which second cost is free at a first one. What it lowers is closed as boxes.
    """
    starts, heights, opened = [-np.inf], [float(reference[1])], [np.inf]
    found: list[tuple[float, float, float, float, float]] = []
    for first, second, negated in front[np.lexsort((front[:, 1], front[:, 0], front[:, 2]))].tolist():
        quality = -negated
        i = bisect_right(starts, first) - 1
        if heights[i] <= second:
            continue
        j = i
        while j < len(starts) and heights[j] > second:
            end = starts[j + 1] if j + 1 < len(starts) else float(reference[0])
            found.append((max(starts[j], first), end, heights[j], quality, opened[j]))
            j += 1
        keep = i + 1 if starts[i] < first else i
        starts[keep:j], heights[keep:j], opened[keep:j] = [first], [second], [quality]
    for j, start in enumerate(starts):
        found.append((start, starts[j + 1] if j + 1 < len(starts) else float(reference[0]), heights[j], -float(reference[2]), opened[j]))
    table = np.array(found)
    return np.column_stack([table[:, 0], np.full(len(table), -np.inf)]), table[:, 1:3], table[:, 3], table[:, 4]


def _cells(front: _Array, reference: _Array) -> tuple[_Array, _Array, _Array, _Array]:
    """As ``_swept``, for any number of costs: every cell between the front's costs, those of fewer points where they are too many."""
    k = len(reference) - 1
    limit = max(2, int(_CELLS ** (1 / k)))
    lows, highs = [], []
    for i in range(k):
        edges = np.unique(front[:, i])
        if len(edges) > limit:
            edges = edges[np.linspace(0, len(edges) - 1, limit).astype(int)]
        lows.append(np.concatenate([[-np.inf], edges]))
        highs.append(np.concatenate([edges, [reference[i]]]))
    corners, ends = (np.stack([m.ravel() for m in np.meshgrid(*sides, indexing="ij")], axis=1) for sides in (lows, highs))
    floor = np.full(len(corners), -reference[-1])
    for point in front:
        np.maximum(floor, -point[-1], out=floor, where=(point[:-1] <= corners).all(axis=1))
    return corners, ends, floor, np.full(len(corners), np.inf)
