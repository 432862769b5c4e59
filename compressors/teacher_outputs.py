"""What a teacher says about every training example, computed once and looked up.

One table for each variant of the data (``compressors.stream``), ``[examples, ...]`` in the order of the split. It is computed as the training data is seen: the
same variant, in batches of the same number of examples. A row belongs to exactly the input that the student sees, so that nothing but the last bits of a sum
can differ from running the teacher beside the student: where all batches have one shape, convolutions and matrix products give a row the same bits in any
company, and where texts are cut to the longest of their batch they may not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.context import Batch, IndexedData, logits_of
from compressors.stream import pieces
from compressors.teacher_spec import TeacherSpec

__all__ = ["OutputStore", "TeacherOutputs"]

LARGEST_BYTES = 1_000_000_000
"""Of a table that is worth keeping. Logits of language models are larger than what it takes to compute them again."""


class OutputStore(Protocol):
    """Where tables are kept."""

    def table(self, teacher: TeacherSpec | None, view: int, compute: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The table of a teacher (None is the uncompressed model) and a variant of the data, ``[examples, ...]``.

        Args:
            teacher: whose outputs.
            view: of which variant.
            compute: yields its rows in order, where it is not there yet.
        """


class TeacherOutputs:
    """Looks up what a teacher says about a batch.

    Args:
        teacher: in eval mode.
        spec: what the store knows it by.
        data: what is looked up.
        store: where tables are kept.
        device: of the training.
    """

    def __init__(self, teacher: nn.Module, spec: TeacherSpec | None, data: IndexedData, store: OutputStore, device: torch.device) -> None:
        self._teacher, self._spec, self._data, self._store, self._device = teacher, spec, data, store, device
        self._tables: dict[int, NDArray[np.float32]] = {}

    def worthwhile(self, outputs: Tensor) -> bool:
        """Whether tables of such ``outputs``, ``[examples, ...]`` of any batch, are small enough to be kept."""
        return self._data.examples("train") * outputs[:1].numel() * 4 <= LARGEST_BYTES

    def of(self, batch: Batch) -> Tensor:
        """``[examples, ...]`` on the training's device."""
        assert batch.rows is not None
        assert batch.view is not None
        if batch.view not in self._tables:
            self._tables[batch.view] = self._store.table(self._spec, batch.view, self._rows(batch.view))
        return torch.from_numpy(np.ascontiguousarray(self._tables[batch.view][batch.rows])).to(self._device)

    def _rows(self, view: int) -> Iterator[NDArray[np.float32]]:
        rows = np.arange(self._data.examples("train"))
        for piece in pieces(len(rows), self._data.batch_size):
            batch = self._data.take("train", rows[piece], view=view).to(self._device)
            with torch.no_grad():
                yield logits_of(self._teacher(**batch.teacher_inputs)).float().cpu().numpy()
