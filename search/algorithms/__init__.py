"""Search algorithms behind one interface, one strategy a file."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.metric import Metric
from search.algorithms.algorithm import Algorithm
from search.space import Space

__all__ = ["Algorithm", "algorithm_named"]


def algorithm_named(name: str, space: Space, objectives: Sequence[Metric], seed: int) -> Algorithm:
    """``random``, ``nsga2``, ``tpe``, or ``auto``, which is TPE: of the three it needs the fewest trials at a few dozen."""
    if name == "random":
        from search.algorithms.random_search import RandomSearch

        return RandomSearch(space, seed)
    from search.algorithms.optuna_search import OptunaSearch

    return OptunaSearch(space, objectives, "nsga2" if name == "nsga2" else "tpe", seed)
