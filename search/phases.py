"""What a study runs, phase after phase, on the same workers."""

from __future__ import annotations

from collections.abc import Generator

from search.job import LATER, Job
from search.record import TrialRecord
from search.tuning import Work

__all__ = ["Phases"]


class Phases:
    """Works in a row as one: the next begins when every job of the one before has ended.

    Args:
        works: makes each work when the one before is over; what it raises ends them all.
    """

    def __init__(self, works: Generator[Work]) -> None:
        self._works = works
        self._work: Work | None = None
        self._running = 0

    def next_job(self) -> Job | None:
        """The next job of the phase; ``LATER`` while its last ones run."""
        while True:
            if self._work is None:
                self._work = next(self._works, None)
                if self._work is None:
                    return None
            job = self._work.next_job()
            if job is not None:
                self._running += bool(job)
                return job
            if self._running:
                return LATER
            self._work = None

    def reached(self, record: TrialRecord) -> bool:
        """See ``Work``."""
        assert self._work is not None
        return self._work.reached(record)

    def paused(self, record: TrialRecord) -> None:
        """See ``Work``."""
        assert self._work is not None
        self._running -= 1
        self._work.paused(record)

    def ended(self, record: TrialRecord) -> None:
        """See ``Work``."""
        assert self._work is not None
        self._running -= 1
        self._work.ended(record)
