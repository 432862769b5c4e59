"""Failures that would come again are remembered under the stage at which they happened, so that whoever comes to it fails at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from compressors.errors import CompressionError, DivergedError, TrialError, UnexportableError
from search.cache import Cache
from search.preparing import state_key

__all__ = ["FailureMemory", "memory_ran_out"]

_VERSION = 1
_FILE = "failure.json"
_LASTING: dict[str, type[TrialError]] = {kind.status: kind for kind in (CompressionError, DivergedError, UnexportableError)}
"""By status. Memory that ran out, a lost worker, a full disk or a bug may not come again."""


class FailureMemory:
    """In the cache, under the stage's key and all versions that may have to do with it: any other version tries again.

    Args:
        cache: of stages.
        versions: installed ones.
        model: as the experiment names it.
    """

    def __init__(self, cache: Cache, versions: Mapping[str, str], model: str) -> None:
        self._cache, self._model = cache, model
        self._versions = json.dumps(dict(versions), sort_keys=True)

    def recall(self, key: str) -> TrialError | None:
        """The failure of a stage, if it is known to fail."""
        folder = self._cache.get(self._key(key))
        if folder is None:
            return None
        known = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return _LASTING[known["status"]](known["reason"])

    @contextmanager
    def remembering(self, stage: str, key: str) -> Iterator[None]:
        """Remember how ``stage`` fails within."""
        try:
            yield
        except TrialError as error:
            if error.status in _LASTING and not _passing(error):
                text = json.dumps({"stage": stage, "status": error.status, "reason": str(error)})
                self._cache.put(self._key(key), lambda folder: (folder / _FILE).write_text(text, encoding="utf-8"), kind=f"failed {stage}", model=self._model)
            raise

    def _key(self, stage: str) -> str:
        return state_key("failure", _VERSION, stage, self._versions)


def memory_ran_out(error: BaseException) -> bool:
    """Whether it says so; torch's allocator of the CPU has no exception of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))


def _passing(error: BaseException) -> bool:
    """Whether what is behind a failure may not be there the next time: steps and exporters wrap whatever a library raises."""
    cause: BaseException | None = error
    while cause is not None:
        if memory_ran_out(cause) or isinstance(cause, OSError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
