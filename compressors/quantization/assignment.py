"""One choice for each site, so that the losses sum to the least that a budget allows: the multiple-choice knapsack problem.

Sites are decided one after the other. What is kept of the decisions so far are those that no others beat in both cost and loss; and of these only the ones
that may still become the best: the linear relaxation of the sites that follow, whose value at any budget is read from one convex curve, bounds what each can
come to, and its rounded solution is a complete assignment that is known to exist [Pisinger1995]_.

.. [Pisinger1995] Pisinger, A minimal algorithm for the multiple-choice knapsack problem, European Journal of Operational Research 83, 1995.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compressors.errors import CompressionError

__all__ = ["assign"]

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDING = 1e-12
"""Relative; sums of the same numbers in another order differ by less."""

_GAP = 1e-6
"""Relative; what may be better by less is not looked for: measured losses are not that exact, and where losses are proportional to costs it never ends."""


def assign(losses: ArrayLike, costs: ArrayLike, budget: float) -> NDArray[np.int64]:
    """The choice of each site with the least sum of losses, to one millionth, whose costs sum to at most ``budget``; of equal choices a cheaper one.

    Args:
        losses: ``[sites, choices]``, any unit; a choice whose loss or cost is not finite is not there.
        costs: ``[sites, choices]``, in the unit of the budget: bytes, bits, milliseconds.
        budget: of all sites together.

    Returns:
        ``[sites]`` positions of the choices.

    Raises:
        CompressionError: the budget is below what the cheapest choices cost together, or a site has no choice.
    """
    losses, costs = np.asarray(losses, dtype=np.float64), np.asarray(costs, dtype=np.float64)
    if losses.ndim != 2 or losses.shape != costs.shape:
        raise ValueError(f"losses and costs must be [sites, choices], got {losses.shape} and {costs.shape}")
    there = np.isfinite(losses) & np.isfinite(costs)
    if not there.any(1).all():
        raise CompressionError(f"site {int(there.any(1).argmin())} has no choice")
    # Relative to the cheapest and to the best choice, sums keep their digits.
    cheapest, best = np.where(there, costs, np.inf).min(1), np.where(there, losses, np.inf).min(1)
    if cheapest.sum() > budget + _ROUNDING * abs(budget):
        raise CompressionError(f"a budget of {budget:.6g} is too small; accepted: at least {cheapest.sum():.6g}")
    room = max(budget + _ROUNDING * abs(budget) - cheapest.sum(), 0.0)
    options = [_undominated(costs[i] - cheapest[i], losses[i] - best[i], there[i]) for i in range(len(losses))]
    # What can spend most is decided first: the rest then fills any gap.
    order = sorted((i for i in range(len(options)) if len(options[i].choices) > 1), key=lambda i: -options[i].costs[-1])
    chosen = np.array([option.choices[0] for option in options], dtype=np.int64)
    for i, choice in zip(order, _solve([options[i] for i in order], room), strict=True):
        chosen[i] = options[i].choices[choice]
    return chosen


@dataclass(frozen=True, slots=True)
class _Options:
    """Of one site: costs ascending from 0, losses descending to 0, and where each stands among the choices."""

    costs: Floats
    losses: Floats
    choices: NDArray[np.int64]

    def hull(self) -> list[int]:
        """Options at the corners of the lower convex hull: each step from one to the next gains less for what it costs than the one before."""
        hull = [0]
        for i in range(1, len(self.costs)):
            while len(hull) > 1 and self._slope(hull[-2], hull[-1]) <= self._slope(hull[-1], i):
                hull.pop()
            hull.append(i)
        return hull

    def _slope(self, a: int, b: int) -> float:
        return float((self.losses[a] - self.losses[b]) / (self.costs[b] - self.costs[a]))


def _undominated(costs: Floats, losses: Floats, there: NDArray[np.bool_]) -> _Options:
    order = np.array([i for i in np.lexsort((losses, costs)) if there[i]], dtype=np.int64)
    kept = order[_falling(losses[order])]
    return _Options(costs[kept], losses[kept], kept)


def _falling(losses: Floats) -> NDArray[np.bool_]:
    """Which values are less than all before them."""
    before = np.concatenate([[np.inf], np.minimum.accumulate(losses)[:-1]])
    return losses < before


class _Relaxed:
    """Least loss of the sites from each one on, by the room that is left for them, if choices could be mixed: convex curves."""

    def __init__(self, options: list[_Options]) -> None:
        self._hulls = [option.hull() for option in options]
        costs = np.concatenate([[], *(np.diff(option.costs[hull]) for option, hull in zip(options, self._hulls, strict=True))])
        gains = np.concatenate([[], *(-np.diff(option.losses[hull]) for option, hull in zip(options, self._hulls, strict=True))])
        owners = np.repeat(np.arange(len(options)), [len(hull) - 1 for hull in self._hulls])
        order = np.argsort(-gains / costs, kind="stable")
        self._costs, self._gains, self._owners = costs[order], gains[order], owners[order]
        self._start = np.cumsum([0.0, *(float(option.losses[0]) for option in reversed(options))])[::-1]

    def corners(self, site: int) -> tuple[Floats, Floats]:
        """Room and loss where each step of the sites from ``site`` on is taken whole, the steepest first: choices that exist."""
        later = self._owners >= site
        room, gained = np.cumsum(self._costs[later]), np.cumsum(self._gains[later])
        return np.concatenate([[0.0], room]), np.concatenate([[self._start[site]], self._start[site] - gained])

    def choices(self, site: int, corner: int) -> list[int]:
        """Options of the sites from ``site`` on at one of the corners."""
        steps = np.bincount(self._owners[self._owners >= site][:corner], minlength=len(self._hulls))
        return [hull[taken] for hull, taken in zip(self._hulls[site:], steps[site:], strict=True)]


def _solve(options: list[_Options], room: float) -> list[int]:
    """Positions among the options of each site."""
    relaxed = _Relaxed(options)
    costs, losses = np.zeros(1), np.zeros(1)
    taken: list[tuple[Integers, Integers]] = []
    known, found = np.inf, [0] * len(options)
    for i, option in enumerate(options):
        spent, lost = (costs[:, None] + option.costs).ravel(), (losses[:, None] + option.losses).ravel()
        fits = np.flatnonzero(spent <= room)
        spent, lost, left = spent[fits], lost[fits], room - spent[fits]
        rooms, least = relaxed.corners(i + 1)
        whole = np.searchsorted(rooms, left, side="right") - 1
        complete = lost + least[whole]
        taken.append((fits // len(option.costs), fits % len(option.costs)))
        best = int(complete.argmin())
        if complete[best] < known:
            known, found = float(complete[best]), [*_decided(taken, best), *relaxed.choices(i + 1, int(whole[best]))]
        open_ = np.flatnonzero(lost + np.interp(left, rooms, least) < known * (1 - _GAP))
        open_ = open_[np.lexsort((lost[open_], spent[open_]))]
        open_ = open_[_falling(lost[open_])]
        if not len(open_):
            break
        costs, losses = spent[open_], lost[open_]
        taken[-1] = (taken[-1][0][open_], taken[-1][1][open_])
    return found


def _decided(taken: list[tuple[Integers, Integers]], at: int) -> list[int]:
    chosen: list[int] = []
    for before, choice in reversed(taken):
        chosen.append(int(choice[at]))
        at = int(before[at])
    return chosen[::-1]
