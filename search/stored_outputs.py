"""Tables of what teachers say about the training data, in the cache beside the stages; mapped into memory, not read."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressors.teacher_spec import TeacherSpec
from search.cache import Cache
from search.preparing import Prepared, state_key

__all__ = ["StoredOutputs"]

_VERSION = 1
_KIND, _FILE = "teacher outputs", "outputs.npy"


class StoredOutputs:
    """Satisfies ``compressors.teacher_outputs.OutputStore``.

    Args:
        prepared: model and data.
        cache: where tables are; of those that compute the same one at once, one does and the others wait.
        device: of the training, ``cpu`` or ``cuda``: they round differently.
        fingerprint: of another teacher than the uncompressed model.
        log: receives a line for each table.
    """

    def __init__(self, prepared: Prepared, cache: Cache, device: str, fingerprint: Callable[[TeacherSpec], str], log: Callable[[str], None]) -> None:
        self._prepared, self._cache, self._device, self._fingerprint, self._log = prepared, cache, device, fingerprint, log

    def table(self, teacher: TeacherSpec | None, view: int, compute: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
        """See ``OutputStore``."""
        p, started = self._prepared, time.monotonic()
        whose = p.model_key if teacher is None else self._fingerprint(teacher)
        key = state_key(_KIND, _VERSION, whose, p.data_key, p.task.batch_size, view, p.versions["torch"], self._device)
        with self._cache.computing(key):
            found = self._cache.get(key)
            if found is None:
                examples = p.task.examples("train")
                found = self._cache.put(key, lambda folder: _write(folder / _FILE, examples, compute), kind=_KIND, model=p.model_name)
                self._log(f"teacher: outputs for variant {view} of {examples:,} examples computed in {time.monotonic() - started:.0f} s")
        table: NDArray[np.float32] = np.load(found / _FILE, mmap_mode="r", allow_pickle=False)
        return table


def _write(path: Path, examples: int, rows: Iterator[NDArray[np.float32]]) -> None:
    first = next(rows)
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(examples, *first.shape[1:]))
    start = 0
    for piece in chain([first], rows):
        table[start : start + len(piece)] = piece
        start += len(piece)
    table.flush()
