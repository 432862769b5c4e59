"""Any algorithm made to propose only what is new and keeps every known constraint: all of them are compared under the same rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from search.algorithms.algorithm import Algorithm, point_key
from search.algorithms.random_search import drawn
from search.space import Space

__all__ = ["Screened"]

Point = dict[str, Any]
_ATTEMPTS = {"auto": 3, "gp": 3}
"""Proposals that are looked at until a random point is taken: the known-cost search repeats nothing; Optuna's GP is slow, and repeats what was refused."""
_MOST_ATTEMPTS = 100


class Screened:
    """An algorithm behind a screen.

    Args:
        algorithm: proposes; what it repeats is told to it again, as from a cache, and what breaks a constraint as a failure.
        name: of the algorithm, as users write it.
        space: of points.
        is_new: whether a point was proposed or evaluated by nobody.
        feasible: which of some points keep every known constraint.
        seed: of random points, where the algorithm finds none.

    Attributes:
        refused: how many new proposals broke a constraint.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        name: str,
        space: Space,
        is_new: Callable[[Point], bool],
        feasible: Callable[[list[Point]], Sequence[bool]],
        seed: int,
    ) -> None:
        self.algorithm = algorithm
        self._name, self._space, self._is_new, self._feasible, self._seed = name, space, is_new, feasible, seed
        self._known: dict[str, list[float] | None] = {}
        self._draws = 0
        self.refused = 0

    def ask(self) -> Point | None:
        """A point that is new and feasible; None where none is found."""
        for _ in range(_ATTEMPTS.get(self._name, _MOST_ATTEMPTS)):
            point = self.algorithm.ask()
            if self._is_new(point):
                if self._feasible([point])[0]:
                    return point
                self.refused += 1
            self.algorithm.tell(point, self._known.get(point_key(point)))
        self._draws += 1
        return drawn(self._space, self._feasible, self._is_new, np.random.default_rng([self._seed, 2, self._draws]))

    def tell(self, point: Mapping[str, Any], objectives: list[float] | None, std: float | None = None) -> None:
        """What came of a point; see ``Algorithm.tell``."""
        self._known[point_key(point)] = objectives
        self.algorithm.tell(point, objectives, std)
