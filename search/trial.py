"""One warm Ray actor that runs job after job over the stage runner."""

from __future__ import annotations

import dataclasses
import gc
import time
import traceback
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import ray
from ray import tune

from compressors.errors import TrialError, UserError
from search.record import Status, TrialRecord

if TYPE_CHECKING:
    from search.stages import StageRunner

__all__ = ["CompressionTrial"]


class CompressionTrial(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """A job is ``{"id", "recipe", "values", "baseline", "split"}``; its result is a terminal record as JSON."""

    def setup(self, config: dict[str, Any], prepared: Sequence[Any] = (), cache: str = "", threads: int = 1) -> None:
        """Once an actor; what takes seconds waits for the first job: Tune gives the jobs of actors that are not ready to others, and ends those.

        Args:
            config: the first job.
            prepared: one reference to model and data in the object store.
            cache: its folder.
            threads: of torch.
        """
        self._job, self._prepared, self._cache, self._threads = config, prepared, cache, threads

    @cached_property
    def _runner(self) -> StageRunner:
        import torch

        from search.cache import Cache
        from search.quiet import quiet_libraries
        from search.stages import StageRunner

        quiet_libraries()
        torch.set_num_threads(self._threads)
        return StageRunner(ray.get(self._prepared[0]), Cache(Path(self._cache)))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next job."""
        self._job = new_config
        return True

    def cleanup(self) -> None:
        """Before the actor ends: Python would search all that torch holds for garbage, a second that everybody waits for."""
        gc.freeze()

    def step(self) -> dict[str, Any]:
        """Run the job."""
        started = time.monotonic()
        record = self._run(self._job)
        return {"record": dataclasses.replace(record, seconds=time.monotonic() - started).to_json(), "done": True}

    def _run(self, job: dict[str, Any]) -> TrialRecord:
        from compressors.recipe import Recipe

        common = TrialRecord(job["id"], job["recipe"], "ok", values=job["values"], baseline=job["baseline"], versions=dict(self._runner.prepared.versions))
        try:
            outcome = self._runner.run(Recipe.from_plain(job["recipe"]), split=job["split"])
        except Exception as error:  # noqa: BLE001 - whatever happens in one trial is its record, and never ends the study
            status, reason = _failure(error)
            return dataclasses.replace(common, status=status, reason=reason, stages=self._runner.stages, logs=self._runner.logs)
        return dataclasses.replace(common, metrics=outcome.metrics, stages=outcome.stages, widths=outcome.widths, logs=outcome.logs, bounds=outcome.bounds)


def _failure(error: Exception) -> tuple[Status, str]:
    """What a record says: the reason of a failure that was expected, the traceback of a bug."""
    if isinstance(error, TrialError):
        return cast("Status", error.status), str(error)
    if isinstance(error, UserError):
        return "error", str(error)
    return "error", "".join(traceback.format_exception(error))
