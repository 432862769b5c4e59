"""A search's budget: how many trials, hours or full trainings, and whether another trial may start."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

from search.record import TrialRecord
from search.settings import SearchSpec

__all__ = ["Budget", "cost_of"]

_VARIANT = 0.1
"""A trial that only quantizes and evaluates what was trained before, in full trainings; nominal, so that such trials are not for nothing."""


class Budget:
    """Never exceeded by a trial that starts: what is under way counts as what it may come to.

    Args:
        spec: one of ``trials``, ``hours`` and ``cost``.
        earlier: trials of the study that ended before this run; their time, divided over the workers, has been spent.
        workers: trials at a time.
        clock: seconds.
    """

    def __init__(self, spec: SearchSpec, earlier: Sequence[TrialRecord], workers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec, self._clock = spec, clock
        self._end = None if spec.hours is None else clock() + 3600 * spec.hours - sum(r.seconds for r in earlier) / workers

    def state(self, ended: Sequence[TrialRecord], running: int) -> Literal["open", "undecided", "spent"]:
        """Whether another trial may start, now that ``ended`` have a record and ``running`` have none yet.

        ``undecided`` where that depends on what those cost that are running.
        """
        if self._end is not None:
            return "open" if self._clock() < self._end else "spent"
        if self._spec.cost is not None:
            cost = sum(map(cost_of, ended))
            if cost + running < self._spec.cost:
                return "open"
            return "undecided" if cost < self._spec.cost and running else "spent"
        return "open" if len(ended) + running < (self._spec.trials or 0) else "spent"


def cost_of(record: TrialRecord) -> float:
    """In trainings of one full trial: 1 where it trained (or evaluated, if its recipe trains nothing), 0 where all was found in the cache.

    A trial that failed has cost 1, unless its recipe could not be applied at all.
    """
    if record.status != "ok":
        return 0.0 if record.status == "infeasible" else 1.0
    stages = [s for s in record.stages if not s.name.startswith("score")]
    training = [s for s in stages if s.name not in ("evaluate", "prune")]
    if any(not s.cached for s in training or stages):
        return 1.0
    return _VARIANT if any(not s.cached for s in stages) else 0.0
