"""Which units stay, given their importance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Candidate", "best", "select_global", "select_local", "select_threshold"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An axis that may be cut.

    Attributes:
        scores: ``[size]`` importance of its units, for all units of the uncompressed model.
        present: sorted indices of the units that earlier steps have left.
    """

    scores: NDArray[np.float64]
    present: NDArray[np.int64]


def _count(wanted: float, available: int, round_to: int, min_units: int) -> int:
    """Units to keep: ``wanted`` to the nearest multiple of ``round_to`` that is at least ``min_units``; all where that many are not there."""
    low = min(-(-max(min_units, 1) // round_to) * round_to, available)
    nearest = int(np.floor(wanted / round_to + 0.5)) * round_to
    return max(low, min(nearest, available))


def best(candidate: Candidate, count: int) -> NDArray[np.int64]:
    """Sorted indices of the ``count`` most important units."""
    # Ties go to the lower index, so that the choice does not depend on the sort.
    order = np.argsort(-candidate.scores[candidate.present], kind="stable")
    return np.sort(candidate.present[order[:count]])


def _relative(candidate: Candidate) -> NDArray[np.float64]:
    """Scores of the units that are present, divided by their mean, so that layers of different scale compare."""
    scores = candidate.scores[candidate.present]
    mean = scores.mean()
    return scores / mean if mean > 0 else np.ones_like(scores)


def select_local(candidates: Mapping[str, Candidate], ratio: float, round_to: int, min_units: int) -> dict[str, NDArray[np.int64]]:
    """Cut the same ``ratio`` of every axis."""
    return {
        name: best(candidate, _count(len(candidate.present) * (1 - ratio), len(candidate.present), round_to, min_units))
        for name, candidate in candidates.items()
    }


def select_global(candidates: Mapping[str, Candidate], ratio: float, round_to: int, min_units: int) -> dict[str, NDArray[np.int64]]:
    """Cut ``ratio`` of all units together, the least important first.

    Scores are divided by their mean within each axis, so that layers of different scale compare; every axis keeps ``min_units``.
    """
    names = list(candidates)
    relative: list[NDArray[np.float64]] = []
    protected: list[NDArray[np.bool_]] = []
    for candidate in candidates.values():
        scores = _relative(candidate)
        safe = np.zeros(len(scores), dtype=np.bool_)
        safe[np.argsort(-scores, kind="stable")[: max(min_units, 1)]] = True
        relative.append(scores)
        protected.append(safe)
    owner = np.concatenate([np.full(len(scores), i) for i, scores in enumerate(relative)])
    pooled = np.where(np.concatenate(protected), np.inf, np.concatenate(relative))
    order = np.argsort(pooled, kind="stable")
    removable = int(np.isfinite(pooled).sum())
    removed = order[: min(int(np.floor(len(pooled) * ratio + 0.5)), removable)]
    lost = np.bincount(owner[removed], minlength=len(names))
    kept: dict[str, NDArray[np.int64]] = {}
    for i, (name, candidate) in enumerate(candidates.items()):
        available = len(candidate.present)
        kept[name] = best(candidate, _count(available - int(lost[i]), available, round_to, min_units))
    return kept


def select_threshold(candidates: Mapping[str, Candidate], threshold: float, round_to: int, min_units: int) -> dict[str, NDArray[np.int64]]:
    """Cut the units of every axis whose score is below ``threshold`` times the axis's mean."""
    return {
        name: best(candidate, _count(int((_relative(candidate) >= threshold).sum()), len(candidate.present), round_to, min_units))
        for name, candidate in candidates.items()
    }
