"""Jobs in a row, each to its end: baselines, publishing, replicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from search.job import Job
from search.record import TrialRecord

__all__ = ["InTurn"]


class InTurn:
    """What a pool runs where nothing is decided on the way.

    Args:
        jobs: in order.
        ended: receives each record.
        start: is told of each job before it runs.
        over: whether no other is to start.

    Attributes:
        left: jobs that were not started.
    """

    def __init__(
        self, jobs: Sequence[Job], ended: Callable[[TrialRecord], None], *, start: Callable[[Job], None] | None = None, over: Callable[[], bool] = bool
    ) -> None:
        self.left, self.ended, self._start, self._over = list(jobs), ended, start, over

    def next_job(self) -> Job | None:
        """The next one."""
        if not self.left or self._over():
            return None
        job = self.left.pop(0)
        if self._start is not None:
            self._start(job)
        return job

    def reached(self, record: TrialRecord) -> bool:  # noqa: ARG002 - nothing is looked at on the way
        """Every job goes on."""
        return True

    def paused(self, record: TrialRecord) -> None:
        """No job ever is."""
        raise AssertionError(f"{record.id} goes on to its end")
