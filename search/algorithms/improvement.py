"""Expected hypervolume improvement where costs are known exactly, in closed form.

The space of costs is cut into cells by the costs of the front; in each cell that a candidate dominates, quality counts above the best that the front offers
there, and its expectation under a normal posterior is the expected improvement [Jones1998]. Where qualities are modelled as well, as in [Yang2019], hundreds
of trials are spent on learning arithmetic.

[Jones1998] D. R. Jones, M. Schonlau, W. J. Welch. Efficient global optimization of expensive black-box functions. J. Global Optimization 13, 1998.
[Yang2019] K. Yang, M. Emmerich, A. Deutz, T. Bäck. Multi-objective Bayesian global optimization using expected hypervolume improvement gradient. Swarm
    Evol. Comput. 44, 2019.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

__all__ = ["expected_improvement"]

_Array = NDArray[np.float64]
_CELLS = 20_000


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
        ``[candidates]``, 0 where a cost exceeds the reference.
    """
    k = costs.shape[1]
    limit = max(2, int(_CELLS ** (1 / max(k, 1))))
    lows, highs = [], []
    for i in range(k):
        edges = np.unique(front[:, i])
        if len(edges) > limit:
            edges = edges[np.linspace(0, len(edges) - 1, limit).astype(int)]
        lows.append(np.concatenate([[-np.inf], edges]))
        highs.append(np.concatenate([edges, [reference[i]]]))
    corners = np.stack([m.ravel() for m in np.meshgrid(*lows, indexing="ij")], axis=1) if k else np.zeros((1, 0))
    level = np.full(len(corners), -reference[-1])
    for point in front:
        np.maximum(level, -point[-1], out=level, where=(point[:-1] <= corners).all(axis=1))
    levels, which = np.unique(level, return_inverse=True)
    volume = np.ones((len(costs), 1))
    for i in range(k):
        edge = np.clip(highs[i] - np.maximum(lows[i], costs[:, i : i + 1]), 0, None) / scale[i]
        volume = (volume[:, :, None] * edge[:, None, :]).reshape(len(costs), -1)
    by_level = volume @ (which[:, None] == np.arange(len(levels))).astype(np.float64)
    z = (mean[:, None] - levels) / deviation[:, None]
    gain = deviation[:, None] * (z * ndtr(z) + np.exp(-0.5 * z**2) / (2 * np.pi) ** 0.5) / scale[-1]
    improvement: _Array = np.nan_to_num((by_level * gain).sum(axis=1), nan=0.0)
    return improvement
