"""Jobs on Ray Tune: a searcher that hands out whatever a study wants to run next."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from compressors.errors import UserError
from search.cache import Cache
from search.preparing import Prepared
from search.record import TrialRecord
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
    ours = not ray.is_initialized()
    if ours:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": None if address else False}
        try:
            ray.init(address=address, **options)
        except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
            if address is None:
                raise
            raise UserError(f"--address {address!r}: no Ray cluster can be reached ({str(error).splitlines()[0]})") from error
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

    def __getstate__(self) -> dict[str, Any]:
        """Without the study: Ray writes its searchers to disk, which nothing here reads back."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_next", "_on_record", "_running")}

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:  # noqa: ARG002 - Ray's signature
        return True

    def suggest(self, trial_id: str) -> Any:
        job = self._next()
        if job is None:
            return Searcher.FINISHED
        self._running[trial_id] = job
        return dict(job)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        job = self._running.pop(trial_id)
        if not error and result and "record" in result:
            self._on_record(TrialRecord.from_json(result["record"]))
        elif error:
            reason = "the worker was lost in every attempt; see Ray's logs"
            self._on_record(TrialRecord(job["id"], job["recipe"], "error", reason, values=job["values"], baseline=job["baseline"], attempts=3))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's own records are the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: see ``save``."""


class Pool:
    """Warm workers that share the prepared model and data through the object store.

    Args:
        prepared: shared by all jobs.
        cache: of stages.
        workers: jobs at a time.
        cpus, gpus: resources of a job.
    """

    def __init__(self, prepared: Prepared, cache: Cache, workers: int, cpus: int, gpus: float) -> None:
        for name, module in sys.modules.items():
            if name.startswith("_compareto_factory_"):
                # Workers cannot import a factory file by its private name: its classes travel by value.
                ray.cloudpickle.register_pickle_by_value(module)
        parameters = tune.with_parameters(CompressionTrial, prepared=prepared, cache=str(cache.root.parent), threads=cpus)
        self._trainable = tune.with_resources(parameters, {"cpu": cpus, "gpu": gpus})
        self._workers = workers

    def run(self, next_job: Callable[[], Job | None], on_record: Callable[[TrialRecord], None]) -> None:
        """Run jobs until ``next_job`` returns None and all have ended."""
        with tempfile.TemporaryDirectory(prefix="compareto-ray-") as folder:
            searching = tune.TuneConfig(search_alg=_Jobs(next_job, on_record), num_samples=-1, max_concurrent_trials=self._workers, reuse_actors=True)
            running = tune.RunConfig(
                storage_path=folder,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            )
            tune.Tuner(self._trainable, tune_config=searching, run_config=running).fit()
