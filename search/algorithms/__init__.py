"""Search algorithms behind one interface, one strategy a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluators.metric import Metric
from search.algorithms.algorithm import Algorithm, Known, point_key
from search.space import Space

__all__ = ["Algorithm", "Known", "algorithm_named", "point_key"]


def algorithm_named(name: str, space: Space, objectives: Sequence[Metric], seed: int, known: Known | None = None) -> Algorithm:
    """``random``, ``grid``, ``nsga2``, ``tpe``, ``gp``, or ``auto``: known-cost search where costs are known and one objective is observed, else TPE."""
    if name == "auto" and known is not None:
        from search.algorithms.known_cost import KnownCostSearch

        return KnownCostSearch(space, known, seed)
    if name == "random":
        from search.algorithms.random_search import RandomSearch

        return RandomSearch(space, seed)
    if name == "grid":
        from search.algorithms.grid_search import GridSearch

        return GridSearch(space, seed)
    from search.algorithms.optuna_search import OptunaSearch

    floor = None
    if known is not None and np.isfinite(known.reference[-1]):
        floor = known.quality, known.sign, -float(known.reference[-1])
    return OptunaSearch(space, objectives, "nsga2" if name == "nsga2" else "gp" if name == "gp" else "tpe", seed, floor)
