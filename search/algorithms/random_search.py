"""Random search: independent uniform points [Bergstra2012]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from search.algorithms.algorithm import Algorithm
from search.space import Space

__all__ = ["RandomSearch"]


class RandomSearch(Algorithm):
    """Uniform over every dimension that counts."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)

    def ask(self) -> dict[str, Any]:
        """A point."""
        return self._space.sample(self._rng)

    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None) -> None:
        """Nothing is learned."""
