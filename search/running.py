"""Jobs on Ray Tune: a searcher that hands out whatever a study wants to run next."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

import ray
from ray import tune
from ray.tune.search import Searcher

from compressors.errors import UserError
from search.cache import Cache
from search.preparing import Prepared
from search.record import Status, TrialRecord
from search.trial import CompressionTrial

__all__ = ["Pool", "connected"]

Job = dict[str, Any]


@contextmanager
def connected(address: str | None) -> Iterator[dict[str, float]]:
    """Ray, started here or reached at ``address``; yields its resources.

    Raises:
        UserError: the cluster cannot be reached.
    """
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # A trial that fails is a record, with its reason, and no trace on the terminal.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    ours = not ray.is_initialized()
    if ours:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None if address else False}
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            if address is None:
                raise
            # Ray sends its token to a named address only where it is told to.
            hint = "" if "RAY_AUTH_MODE" in os.environ else "; a cluster that wants a token, as Ray's own default is, needs RAY_AUTH_MODE=token"
            raise UserError(f"--address {address!r}: no Ray cluster can be reached ({str(error).splitlines()[0]}){hint}") from error
    try:
        yield ray.cluster_resources()
    finally:
        if ours:
            ray.shutdown()


class _Jobs(Searcher):  # type: ignore[misc]  # Ray ships no types
    """Ray's view of a study."""

    def __init__(self, next_job: Callable[[], Job | None], on_record: Callable[[TrialRecord], None]) -> None:
        super().__init__()
        self._next, self._on_record = next_job, on_record
        self._running: dict[str, Job] = {}
        self._lost: dict[str, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Without the study: Ray writes its searchers to disk, which nothing here reads back."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_next", "_on_record", "_running")}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:  # noqa: ARG002 - Ray's signature
        return True

    def suggest(self, trial_id: str) -> Any:
        job = self._next()
        if job is None:
            return Searcher.FINISHED
        if not job:
            return None
        self._running[trial_id] = job
        return dict(job)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        if not error and result and "record" in result:
            self._running.pop(trial_id)
            attempts = 1 + self._lost.get(trial_id, 0)
            self._on_record(dataclasses.replace(TrialRecord.from_json(result["record"]), attempts=attempts))

    def lost(self, trial_id: str) -> None:
        """A job's worker has ended before the job; it is tried again."""
        self._lost[trial_id] = self._lost.get(trial_id, 0) + 1

    def failed(self, trial_id: str, text: str) -> None:
        """A job's worker has ended before the job in every attempt; ``text`` is what Ray knows."""
        job = self._running.pop(trial_id)
        attempts = 1 + self._lost.get(trial_id, 0)
        if "Traceback" in text:
            status, reason = "error", text
        else:
            status = "out-of-memory"
            reason = (
                f"the worker's process was killed without a word in each of {attempts} attempts, as the operating system does where memory runs out; "
                "lower search.workers or the batch size, or see the system's log"
            )
        record = TrialRecord(job["id"], job["recipe"], cast("Status", status), reason, values=job["values"], baseline=job["baseline"], attempts=attempts)
        self._on_record(record)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's own records are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see ``save``."""


class _Losses(tune.Callback):  # type: ignore[misc]  # Ray ships no types
    """Tells the searcher of workers that ended before their job: its own callbacks do not say why."""

    def __init__(self, jobs: _Jobs) -> None:
        self._jobs = jobs

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002 - Ray's signature
        self._jobs.lost(trial.trial_id)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:  # noqa: ARG002 - Ray's signature
        said = Path(trial.error_file).read_text(encoding="utf-8") if trial.error_file else ""
        self._jobs.failed(trial.trial_id, said.rpartition("Failure # ")[2])


class Pool:
    """Warm workers that share the prepared model and data through the object store.

    Args:
        prepared: shared by all jobs.
        cache: of stages.
        workers: jobs at a time.
        cpus, gpus: resources of a job.
    """

    LATER: ClassVar[Job] = {}

    def __init__(self, prepared: Prepared, cache: Cache, workers: int, cpus: int, gpus: float) -> None:
        for name, module in sys.modules.items():
            if name.startswith("_compareto_factory_"):
                # Workers cannot import a factory file by its private name: its classes travel by value.
                ray.cloudpickle.register_pickle_by_value(module)
        parameters = tune.with_parameters(CompressionTrial, prepared=[ray.put(prepared)], cache=str(cache.root.parent), threads=cpus)
        self._trainable = tune.with_resources(parameters, {"cpu": cpus, "gpu": gpus})
        self.workers = workers

    def run(self, next_job: Callable[[], Job | None], on_record: Callable[[TrialRecord], None]) -> None:
        """Run jobs until ``next_job`` returns None and all have ended; where it returns ``LATER`` it is asked again when one has."""
        with tempfile.TemporaryDirectory(prefix="compareto-ray-") as folder:
            jobs = _Jobs(next_job, on_record)
            searching = tune.TuneConfig(search_alg=jobs, num_samples=-1, max_concurrent_trials=self.workers, reuse_actors=True)
            running = tune.RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[_Losses(jobs)],
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            )
            tune.Tuner(self._trainable, tune_config=searching, run_config=running).fit()
