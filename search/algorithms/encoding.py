"""Points of a space as rows of an array, for searches that look at thousands of them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.space import Space

__all__ = ["Encoding"]

_Array = NDArray[np.float64]


class Encoding:
    """Between points and their codes, ``[points, dimensions]`` in [0, 1]; see ``Space.encode``.

    Attributes:
        counts: of the values of each dimension, None where they are not countable.
        free: ``[dimensions]`` whether it is a choice.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._names = [d.name for d in space.dimensions]
        self.counts = [d.count for d in space.dimensions]
        self.free = np.array([d.kind == "choice" for d in space.dimensions], dtype=np.bool_)

    def codes(self, points: Sequence[Mapping[str, Any]]) -> _Array:
        """Of points."""
        return np.array([self._space.encode(p) for p in points], dtype=np.float64).reshape(len(points), len(self._names))

    def snapped(self, codes: _Array) -> _Array:
        """The codes of the points that codes decode to: what is countable in the middle of its part, what does not count at 0.5."""
        result = np.clip(codes, 0.0, 1.0)
        counting = np.ones(result.shape, dtype=np.bool_)
        position = {name: i for i, name in enumerate(self._names)}
        for i, dimension in enumerate(self._space.dimensions):
            if dimension.count is not None:
                n = dimension.count
                result[:, i] = (np.minimum(np.floor(result[:, i] * n), n - 1) + 0.5) / n
            for name, value in dimension.requires:
                j = position[name]
                counting[:, i] &= counting[:, j] & (np.abs(result[:, j] - self._space.dimensions[j].encode(value)) < 1e-9)
        result[~counting] = 0.5
        return result

    def points(self, codes: _Array) -> list[dict[str, Any]]:
        """What codes decode to; the same as ``Space.decode``."""
        columns = [[d.decode(c) for c in column] for d, column in zip(self._space.dimensions, codes.T.tolist(), strict=True)]
        if not columns:
            return [{} for _ in codes]
        rows = [dict(zip(self._names, row, strict=True)) for row in zip(*columns, strict=True)]
        conditional = [d for d in self._space.dimensions if d.requires]
        for row in rows:
            for dimension in conditional:
                if not dimension.counts(row):
                    del row[dimension.name]
        return rows

    def features(self, codes: _Array) -> _Array:
        """``[points, features]``: ordered dimensions as they are encoded, unordered choices of three and more as indicators."""
        columns: list[_Array] = []
        for i, dimension in enumerate(self._space.dimensions):
            if dimension.ordinal or len(dimension.choices) < 3:
                columns.append(codes[:, i : i + 1])
            else:
                columns.append((np.floor(codes[:, i : i + 1] * len(dimension.choices)) == np.arange(len(dimension.choices))).astype(np.float64))
        return np.hstack(columns) if columns else np.zeros((len(codes), 0))

    def every(self, most: int) -> _Array | None:
        """Codes of all points of the space, each once, in a fixed order; None where there are more than ``most``, or they are not countable."""
        counts, size = self.counts, self._space.size
        if size is None or size > most or math.prod(c or 1 for c in counts) > 8 * most:
            return None
        if not counts:
            return np.zeros((1, 0))
        levels = [[(j + 0.5) / (c or 1) for j in range(c or 1)] for c in counts]
        return np.unique(self.snapped(np.array(list(itertools.product(*levels)), dtype=np.float64).reshape(-1, len(counts))), axis=0)
