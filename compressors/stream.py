"""The batches of a training: in which order, in which variants, and which examples are held out.

Augmentation is a property of the data here, not of a training: there are ``views`` variants of the training examples, variant v of an example is the same
whoever looks, and epoch e sees variant e mod ``views``. Orders still follow the seed of the training. So what a teacher says about a variant can be computed
once for all trainings (``compressors.teacher_outputs``), and belongs to exactly the inputs that a student sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compressors.context import Batch, IndexedData, TrainingData

__all__ = ["Stream", "indexed", "pieces"]

_HELD_OUT_SEED = 0


def indexed(data: TrainingData) -> IndexedData | None:
    """The same data where its examples can be asked for by number, else None."""
    return data if isinstance(data, IndexedData) else None


def pieces(count: int, size: int) -> list[slice]:
    """``count`` examples in batches of ``size``. One example alone cannot train a batch norm: it joins the batch before."""
    starts = list(range(0, count, size))
    if count > size > 1 and count % size == 1:
        starts.pop()
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


@dataclass(frozen=True)
class Stream:
    """Passes over the training split.

    Attributes:
        data: where the examples are.
        batch_size: None is the data's.
        views: how many variants there are; None, or data whose examples have no numbers: augmented anew by the seed of each pass.
        held_out: share of the examples that no pass has, in [0, 1); the same ones for every training.
        first_view: variant that the first pass has.
    """

    data: TrainingData
    batch_size: int | None = None
    views: int | None = None
    held_out: float = 0.0
    first_view: int = 0

    @cached_property
    def _examples(self) -> IndexedData | None:
        return indexed(self.data) if self.views is not None or self.held_out else None

    @cached_property
    def _split(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the examples that are trained on, and of those held out, ascending."""
        assert self._examples is not None
        count = self._examples.examples("train")
        apart = round(count * self.held_out)
        mixed = np.random.default_rng(_HELD_OUT_SEED).permutation(count) if apart else np.arange(count)
        return np.sort(mixed[apart:]), np.sort(mixed[:apart])

    @property
    def steps(self) -> int:
        """Batches of one pass."""
        if self._examples is None:
            return self.data.steps("train", batch_size=self.batch_size)
        return len(pieces(len(self._split[0]), self.batch_size or self._examples.batch_size))

    def epoch(self, number: int, seed: int) -> Iterator[Batch]:
        """One pass, shuffled by the ``seed`` of the training and the epoch's number."""
        data = self._examples
        if data is None:
            yield from self.data.batches("train", seed=seed + number, batch_size=self.batch_size)
            return
        rows = np.random.default_rng(seed + number).permutation(self._split[0])
        # Without views, of data whose examples have to be numbered only because some are held out, each epoch is a variant of its own.
        view = 0 if not data.augments else (self.first_view + number) % self.views if self.views is not None else seed + number
        for piece in pieces(len(rows), self.batch_size or data.batch_size):
            yield data.take("train", rows[piece], view=view)

    def held(self) -> Iterator[Batch]:
        """The examples that were held out, as they are."""
        data = self._examples
        if data is not None and self.held_out:
            for piece in pieces(len(self._split[1]), self.batch_size or data.batch_size):
                yield data.take("train", self._split[1][piece])
