"""What Ray Tune sees of a study: a searcher that hands out its jobs, a scheduler that asks it at each rung, and the losses of workers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from compressors.errors import StorageError
from search.job import Job
from search.record import Status, TrialRecord

__all__ = ["Jobs", "Losses", "Rungs", "Work"]

_SHORTEST, _LONGEST, _SHARE = 0.1, 10.0, 0.1
"""Seconds that a worker waits before it asks again; of those since there was a job, the share."""


class Work(Protocol):
    """What a pool runs."""

    def next_job(self) -> Job | None:
        """The next job; an empty one where that depends on what is under way; None when there is no other."""

    def reached(self, record: TrialRecord) -> bool:
        """Whether a job that has run a part of its training goes on at once."""

    def paused(self, record: TrialRecord) -> None:
        """A job that did not go on has given its worker back; it may be handed out again."""

    def ended(self, record: TrialRecord) -> None:
        """A job has its terminal record."""


class Jobs(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Hands out jobs and takes in records.

    Attributes:
        error: what ended the work early: storage that cannot be written, or a mistake of ours, which Tune would only log.
    """

    def __init__(self, work: Work) -> None:
        super().__init__()
        self._work = work
        self._running: dict[str, Job] = {}
        self._lost: dict[str, int] = {}
        self._busy = time.monotonic()
        self.error: Exception | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the study: Ray writes its searchers to disk, which nothing here reads back."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_work", "_running", "error")}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:  # noqa: ARG002 - Ray's signature
        """Ray asks; nothing depends on it."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next job as a trial's configuration; a short sleep where there is none yet."""
        job = self._guarded(self._work.next_job) if self.error is None else None
        if job is None:
            return Searcher.FINISHED
        if not job:
            # Tune ends workers that have nothing to do, and starting another takes seconds.
            return {"idle": min(_LONGEST, max(_SHORTEST, (time.monotonic() - self._busy) * _SHARE))}
        self._running[trial_id] = job
        self._busy = time.monotonic()
        return dict(job)

    def reached(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether a trial goes on after this result."""
        if "record" not in result:
            return True
        return bool(self._guarded(self._work.reached, self._record(trial_id, result)))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A trial has ended: with a record, before its end, or without storage."""
        if error or not result:
            return
        if "storage" in result:
            del self._running[trial_id]
            self.error = self.error or StorageError(result["storage"])
        elif "record" in result:
            del self._running[trial_id]
            self._busy = time.monotonic()
            record = self._record(trial_id, result)
            self._lost.pop(trial_id, None)
            self._guarded(self._work.paused if record.status == "ok" and record.rung < 1 else self._work.ended, record)

    def lost(self, trial_id: str) -> None:
        """A job's worker has ended before the job; it is tried again."""
        self._lost[trial_id] = self._lost.get(trial_id, 0) + 1

    def failed(self, trial_id: str, text: str) -> None:
        """A job's worker has ended before the job in every attempt; ``text`` is what Ray knows."""
        job = self._running.pop(trial_id, None)
        if job is None:
            return
        attempts = 1 + self._lost.pop(trial_id, 0)
        if "Traceback" in text:
            status, reason = "error", text
        elif "its node has died" in text:
            status = "interrupted"
            reason = f"the node of its worker was lost in the last of {attempts} attempts; where nodes are taken away, shorter trials help"
        else:
            status = "out-of-memory"
            reason = (
                f"the worker's process was killed without a word in each of {attempts} attempts, as the operating system does where memory runs out; "
                "lower search.workers or the batch size, or see the system's log"
            )
        record = TrialRecord(job["id"], job["recipe"], cast("Status", status), reason, values=job["values"], baseline=job["baseline"], attempts=attempts)
        self._guarded(self._work.ended, dataclasses.replace(record, replicate=job["replicate"]))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's own records are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see ``save``."""

    def _record(self, trial_id: str, result: dict[str, Any]) -> TrialRecord:
        return dataclasses.replace(TrialRecord.from_json(result["record"]), attempts=1 + self._lost.get(trial_id, 0))

    def _guarded(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Tune logs what a searcher raises, and goes on; here it ends the work once what is under way has ended."""
        try:
            return call(*arguments)
        except Exception as error:  # noqa: BLE001 - raised by the pool
            self.error = self.error or error
            return None


class Rungs(FIFOScheduler):  # type: ignore[misc]  # Ray ships no types
    """Asks at each rung whether a trial goes on.

    One that does not ends for Tune, and gives its worker to another; the study may hand its job out again, which then goes on from the stage that the rung
    left in the cache, on whatever worker or node. So a paused trial holds nothing, and outlives its worker, its node and its driver.
    """

    def __init__(self, jobs: Jobs) -> None:
        super().__init__()
        self._jobs = jobs

    def choose_trial_to_run(self, tune_controller: Any) -> None:
        """None: Tune gives free workers to new trials by itself; a trial chosen here would get one in place of its own, which is ended while it starts."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:  # noqa: ARG002 - Ray's signature
        """Whether the trial goes on."""
        goes_on = result.get("done") or self._jobs.reached(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class Losses(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Tells the searcher of workers that ended before their job: its own callbacks do not say why."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002 - Ray's signature
        """A lost worker's trial starts again."""
        self._jobs.lost(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002 - Ray's signature
        """It was lost in every attempt."""
        said = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        self._jobs.failed(trial.trial_id, said.rpartition("Failure # ")[2])
