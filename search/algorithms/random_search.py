"""Random search: independent uniform points [Bergstra2012]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from search.algorithms.algorithm import Algorithm
from search.space import Space

__all__ = ["RandomSearch", "drawn"]

_DRAWS, _ROUNDS = 512, 40


class RandomSearch(Algorithm):
    """Uniform over every dimension that counts."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._rng = np.random.default_rng(seed)

    def ask(self) -> dict[str, Any]:
        """A point."""
        return self._space.sample(self._rng)

    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None, std: float | None = None) -> None:
        """Nothing is learned."""


def drawn(
    space: Space, feasible: Callable[[list[dict[str, Any]]], Sequence[bool]], is_new: Callable[[dict[str, Any]], bool], rng: np.random.Generator
) -> dict[str, Any] | None:
    """A random point that is new and feasible; None where there is none among some twenty thousand."""
    for _ in range(_ROUNDS):
        points = [space.sample(rng) for _ in range(_DRAWS)]
        for point, fits in zip(points, feasible(points), strict=True):
            if fits and is_new(point):
                return point
    return None
