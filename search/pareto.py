"""Pareto fronts: the non-dominated set, its hypervolume and its knee, for any number of objectives. Exact.

Everywhere here smaller is better in every column; ``evaluators.metric.Metric.minimised`` turns a value's sign where larger is better.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["dominates", "hypervolume", "knee", "non_dominated", "reference_box"]

_CHUNK = 256
_MARGIN = 0.1


def dominates(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether ``a`` is nowhere worse than ``b`` and somewhere better; the last dimension is objectives, the others broadcast. NaN takes no part."""
    finite = ~(np.isnan(a).any(-1) | np.isnan(b).any(-1))
    return np.asarray((a <= b).all(-1) & (a < b).any(-1) & finite)


def non_dominated(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of ``[points, objectives]`` no other point dominates. Equal points are all kept; a point with a NaN never is."""
    points = np.asarray(points, dtype=np.float64)
    kept = np.zeros(len(points), dtype=np.bool_)
    rows = np.flatnonzero(~np.isnan(points).any(axis=1))
    # What dominates a point comes before it in lexical order, so that only the front so far and its own chunk can.
    rows = rows[np.lexsort(points[rows].T[::-1])] if points.shape[1] else rows
    front = points[:0]
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        rivals = np.concatenate([front, points[chunk]])
        kept[chunk] = ~dominates(rivals[None, :, :], points[chunk][:, None, :]).any(axis=1)
        front = np.concatenate([front, points[chunk[kept[chunk]]]])
    return kept


def hypervolume(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Volume that ``[points, objectives]`` dominate up to ``reference``, ``[objectives]``.

    Points that are not strictly better than the reference everywhere, and points with a NaN, add nothing. By slicing objectives [While2006]; with n points
    and m objectives at most n^(m-1) log n steps, so it is meant for fronts, not for populations of thousands with five objectives.

    [While2006] L. While, P. Hingston, L. Barone, S. Huband. A faster algorithm for calculating hypervolume. IEEE Trans. Evol. Comput. 10(1), 2006.
    """
    points, reference = np.asarray(points, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    inside = points[(points < reference).all(axis=1)]
    return _sliced(inside[non_dominated(inside)], reference) if len(inside) else 0.0


def _sliced(points: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    objectives = points.shape[1]
    if objectives == 1:
        return float(reference[0] - points.min())
    if objectives == 2:
        points = points[np.lexsort((points[:, 1], points[:, 0]))]
        floor = np.minimum.accumulate(points[:, 1])
        widths = np.diff(points[:, 0], append=reference[0])
        return float(widths @ (reference[1] - floor))
    points = points[np.argsort(points[:, -1], kind="stable")]
    depths = np.diff(points[:, -1], append=reference[-1])
    volume = 0.0
    slab = points[:0, :-1]
    for point, depth in zip(points[:, :-1], depths, strict=True):
        slab = np.concatenate([slab[~(point <= slab).all(axis=1)], point[None]]) if not (slab <= point).all(axis=1).any() else slab
        if depth > 0:
            volume += depth * _sliced(slab, reference[:-1])
    return volume


def reference_box(anchors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Reference point and scale for hypervolumes that can be compared within one experiment.

    Args:
        anchors: ``[points, objectives]`` that are the same however the search went: the uniform baselines. NaN is ignored.

    Returns:
        The reference, ``[objectives]``: the anchors' worst value, moved a tenth of their range further, so that the worst anchor itself still counts; and the
        scale, ``[objectives]``: from there to the anchors' best. A hypervolume divided by the scale's product is 1 for a point that unites all of the anchors'
        best values.
    """
    with np.errstate(all="ignore"):
        worst, best = np.nanmax(anchors, axis=0), np.nanmin(anchors, axis=0)
    span = worst - best
    span = np.where(span > 0, span, np.where(worst != 0, np.abs(worst), 1.0))
    reference = worst + _MARGIN * span
    return reference, reference - best


def knee(points: NDArray[np.float64]) -> int | None:
    """Row of the front's knee among ``[points, objectives]``; None where no point is on the front.

    Objectives are scaled to [0, 1] over the front. The knee is the point that lies farthest, on the side of the ideal point, from the hyperplane through the
    best point of each objective [Das1999]; where these do not span a hyperplane that faces the ideal, from the one through the unit points. The first among
    equals.

    [Das1999] I. Das. On characterizing the "knee" of the Pareto curve based on normal-boundary intersection. Structural Optimization 18, 1999.
    """
    points = np.asarray(points, dtype=np.float64)
    rows = np.flatnonzero(non_dominated(points))
    if not len(rows):
        return None
    front = points[rows]
    low, span = front.min(axis=0), np.ptp(front, axis=0)
    scaled = (front - low) / np.where(span > 0, span, 1.0)
    used = span > 0
    if used.sum() < 2:
        return int(rows[0])
    scaled = scaled[:, used]
    # Among several best points of one objective, the one that is best in the others marks the corner.
    corners = scaled[[int(np.lexsort((scaled.sum(axis=1), scaled[:, i]))[0]) for i in range(scaled.shape[1])]]
    normal = np.ones(scaled.shape[1])
    if np.linalg.matrix_rank(corners) == len(corners):
        solved = np.linalg.solve(corners, np.ones(len(corners)))
        normal = solved if (solved > 0).all() else normal
    distance = (1.0 - scaled @ normal) / np.linalg.norm(normal)
    return int(rows[int(np.argmax(np.round(distance, 12)))])
