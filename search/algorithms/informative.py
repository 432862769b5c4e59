"""Which observations a Gaussian process is given where they are too many for its linear algebra: those near the front, the latest, and some of all others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search.pareto import non_dominated

__all__ = ["informative"]

_MOST = 600
_LATEST = 100
_LAYERED = 400


def informative(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows, in order, at most 600 of ``[points, objectives]``, all of which smaller is better.

    All where there are no more. Else the latest 100, then layers of points that none of the rest dominates, up to 400, and an even choice of the others.
    """
    count = len(points)
    if count <= _MOST:
        return np.arange(count)
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[-_LATEST:] = True
    while chosen.sum() < _LAYERED:
        rest = np.flatnonzero(~chosen)
        layer = rest[non_dominated(points[rest])][: _LAYERED - int(chosen.sum())]
        if not len(layer):
            break
        chosen[layer] = True
    rest = np.flatnonzero(~chosen)
    chosen[rest[np.linspace(0, len(rest) - 1, _MOST - int(chosen.sum())).astype(int)]] = True
    return np.flatnonzero(chosen)
