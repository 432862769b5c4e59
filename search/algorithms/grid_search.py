"""Grid search: every combination of levels, in an order that a seed shuffles; ranges without levels get finer and finer ones."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.algorithms.algorithm import Algorithm
from search.space import Space

__all__ = ["GridSearch"]


class GridSearch(Algorithm):
    """Grids of 2, 3, 5, 9, ... levels for each range that is not countable, all of the values of those that are."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._finer = 0
        self._begin()

    def ask(self) -> dict[str, Any]:
        """The next point, which a coarser grid may have had already."""
        if self._position == self._total:
            self._finer += 1
            self._begin()
        index = (self._first + self._position * self._step) % self._total
        self._position += 1
        code = np.zeros(len(self._levels))
        for i, levels in enumerate(self._levels):
            index, level = divmod(index, levels)
            code[i] = (level + 0.5) / levels if self._space.dimensions[i].count is not None else level / (levels - 1)
        return self._space.decode(code)

    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None, std: float | None = None) -> None:
        """Nothing is learned."""

    def _begin(self) -> None:
        levels = 1 + 2**self._finer
        self._levels = [d.count or levels for d in self._space.dimensions]
        self._total, self._position = math.prod(self._levels), 0
        # A step without common divisors visits every index once.
        self._first, self._step = int(self._rng.integers(2**62)), int(self._rng.integers(2**62))
        while math.gcd(self._step, self._total) != 1:
            self._step += 1
