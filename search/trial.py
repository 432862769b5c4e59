"""One warm Ray actor that runs job after job over the stage runner."""

from __future__ import annotations

import dataclasses
import gc
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import ray
from ray import tune

from compressors.errors import StorageError, TrialError, UserError
from search.cluster_check import require_same_code
from search.record import Status, TrialRecord

if TYPE_CHECKING:
    from search.stages import StageRunner

__all__ = ["CompressionTrial"]


class CompressionTrial(tune.Trainable):  # type: ignore[misc]  # Ray ships no types
    """Runs a job (see ``search.job``) rung by rung; each result has its record as JSON, terminal at the last rung and where it failed.

    It writes no checkpoint of Tune's: what a part of a training left is a stage in the cache, from which any worker goes on.
    """

    def setup(
        self,
        config: dict[str, Any],
        prepared: Sequence[Any] = (),
        cache: tuple[str, str] = ("", "none"),
        threads: int = 1,
        code: Mapping[str, str] | None = None,
    ) -> None:
        """Once an actor; what takes seconds waits for the first job: Tune gives the jobs of actors that are not ready to others, and ends those.

        Args:
            config: the first job.
            prepared: one reference to model and data in the object store.
            cache: location and limit.
            threads: of torch.
            code: what the driver has, see ``search.cluster_code.identity``; another worker runs nothing. None where it cannot be another.
        """
        self._prepared, self._cache, self._threads, self._code = prepared, cache, threads, code
        self.reset_config(config)

    @cached_property
    def _runner(self) -> StageRunner:
        if self._code is not None:
            require_same_code(self._code)
        import torch

        from search.cache import Cache
        from search.quiet import quiet_libraries
        from search.stages import StageRunner

        quiet_libraries()
        torch.set_num_threads(self._threads)
        return StageRunner(ray.get(self._prepared[0]), Cache(*self._cache))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The next job."""
        self._job = new_config
        part = new_config.get("part")
        self._part = TrialRecord.from_json(part) if part else None
        return True

    def cleanup(self) -> None:
        """Before the actor ends: Python would search all that torch holds for garbage, a second that everybody waits for."""
        gc.freeze()

    def step(self) -> dict[str, Any]:
        """Run the job up to its next rung; where there is none yet, wait a little."""
        if "idle" in self._job:
            time.sleep(self._job["idle"])
            return {"done": True}
        started = time.monotonic()
        before = self._part
        try:
            record = self._run(self._job, before.rung if before else 0.0)
        except StorageError as error:
            return {"storage": str(error), "done": True}
        record = dataclasses.replace(record, seconds=time.monotonic() - started)
        if before is not None:
            known = {stage.key for stage in before.stages}
            stages = (*before.stages, *(stage for stage in record.stages if stage.key not in known))
            seconds, logs = before.seconds + record.seconds, (*before.logs, *record.logs)
            record = dataclasses.replace(record, stages=stages, seconds=seconds, logs=logs, curve={**before.curve, **record.curve})
        self._part = record
        return {"record": record.to_json(), "done": record.status != "ok" or record.rung >= 1}

    def _run(self, job: dict[str, Any], after: float) -> TrialRecord:
        from compressors.recipe import Recipe

        rung = next(rung for rung in job["rungs"] if rung > after)
        runner, replicate = self._runner, job["replicate"]
        common = TrialRecord(
            job["id"],
            job["recipe"],
            "ok",
            values=job["values"],
            baseline=job["baseline"],
            rung=rung,
            replicate=replicate,
            versions=dict(runner.prepared.versions),
        )
        try:
            outcome = runner.run(Recipe.from_plain(job["recipe"]), replicate=replicate, budget=rung, after=after, split=job["split"])
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever happens in one trial is its record, and never ends the study
            status, reason = _failure(error)
            return dataclasses.replace(common, status=status, reason=reason, stages=runner.stages, logs=runner.logs)
        curve = {str(rung): {m.name: outcome.metrics[m.name].value for m in runner.prepared.task.quality}} if rung < 1 else {}
        found = dataclasses.replace(common, metrics=outcome.metrics, stages=outcome.stages, widths=outcome.widths, logs=outcome.logs)
        return dataclasses.replace(found, bounds=outcome.bounds, curve=curve, candidate=outcome.candidate, examples=outcome.examples)


def _failure(error: Exception) -> tuple[Status, str]:
    """What a record says: the reason of a failure that was expected, the traceback of a bug."""
    if isinstance(error, TrialError):
        return cast("Status", error.status), str(error)
    if isinstance(error, UserError):
        return "error", str(error)
    return "error", "".join(traceback.format_exception(error))
