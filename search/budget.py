"""A search's budget: how many trials, hours or full trainings, and whether another trial may start."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Literal

from search.pace import Pace
from search.record import TrialRecord
from search.settings import SearchSpec

__all__ = ["Budget", "cost_of"]

_ROUNDING = 1e-9
_KEPT = 0.5
"""Of a budget in hours, at most, for publishing."""
_VARIANT = 0.1
"""A trial that only quantizes and evaluates what was trained before, in full trainings; nominal, so that such trials are not for nothing."""


class Budget:
    """Never exceeded by a trial that starts: what is under way counts as what it may come to.

    Args:
        spec: one of ``trials``, ``hours`` and ``cost``.
        earlier: trials of the study that ended before this run; their time, divided over the workers, has been spent.
        workers: trials at a time.
        clock: seconds.
        front: how many points would be published now; of a budget in hours, time is kept for that.

    Attributes:
        pace: what trainings take.
    """

    def __init__(
        self,
        spec: SearchSpec,
        earlier: Sequence[TrialRecord],
        workers: int,
        clock: Callable[[], float] = time.monotonic,
        front: Callable[[], int] = lambda: 0,
    ) -> None:
        self._spec, self._clock, self._workers, self._front = spec, clock, workers, front
        self.pace = Pace()
        self._end = None if spec.hours is None else clock() + 3600 * spec.hours - sum(r.seconds for r in earlier) / workers
        self._ended, self._cost = 0, 0.0
        for record in earlier:
            self.add(record)

    def add(self, record: TrialRecord) -> None:
        """A trial has ended."""
        self._ended += 1
        self._cost += cost_of(record)
        self.pace.add(record)

    def state(self, running: int, parts: Sequence[float] = (), *, part: float | None = None) -> Literal["open", "undecided", "spent"]:
        """Whether another trial may start; ``undecided`` where that depends on what those cost that are running.

        Args:
            running: trials under way.
            parts: of the trials that wait for a decision, the fraction of the training that each has run.
            part: of the one that would go on, the same, which is then not among ``parts``; None for a new trial.
        """
        if self._end is not None:
            return "open" if self._clock() < self._end - self._kept() else "spent"
        if self._spec.cost is not None:
            left = self._spec.cost - self._cost - sum(parts) - 1 + _ROUNDING
            if left >= running:
                return "open"
            return "undecided" if left > 0 and running else "spent"
        return "open" if part is not None or self._ended + running + len(parts) < (self._spec.trials or 0) else "spent"

    @property
    def deadline(self) -> float | None:
        """When the front has to be published, on the budget's clock; None where the budget is not in hours."""
        return self._end

    def _kept(self) -> float:
        """Seconds that are kept for publishing."""
        return min(self.pace.publishing(self._front(), self._spec.replicates, self._workers), _KEPT * 3600 * (self._spec.hours or 0))


def cost_of(record: TrialRecord) -> float:
    """In trainings of one full trial: 1 where it trained (or evaluated, if its recipe trains nothing), 0 where all was found in the cache.

    A trial that was stopped has cost the part of its training that it ran, one that failed 1, unless its recipe could not be applied at all.
    """
    if record.status not in ("ok", "stopped"):
        return 0.0 if record.status == "infeasible" else 1.0
    stages = [s for s in record.stages if not s.name.startswith("score")]
    training = [s for s in stages if s.name not in ("evaluate", "prune")]
    if any(not s.cached for s in training or stages):
        return record.rung
    return _VARIANT if any(not s.cached for s in stages) else 0.0
