"""How many inputs will leave at exits that were never trained: believed from the trials so far, since costs that depend on it are observed, not predicted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from functools import cached_property

import numpy as np

from compressors.compressor import GraphEdit
from compressors.graph import ModelGraph, Shapes
from compressors.graph.exits import Exits, staged
from compressors.recipe import Recipe
from evaluators.exit_rates import ExitRates
from evaluators.metric import Estimate
from search.grouping import in_groups
from search.stages import StageRunner

__all__ = ["ExitBeliefs"]

_NEAR_THRESHOLD, _NEAR_DEPTH = 0.1, 0.1
_PRIOR_WEIGHT = 0.05
"""Of what is taken for likely before any trial has ended, against one trial at the same depth with the same threshold."""


class ExitBeliefs:
    """Expected costs of candidates with exits, by what earlier trials say of exits at about the same depth with about the same threshold.

    Args:
        runner: plans and prices them.
    """

    def __init__(self, runner: StageRunner) -> None:
        self._runner = runner
        self._seen: list[tuple[float, float, float]] = []

    def learn(self, rates: ExitRates) -> None:
        """What was measured of a model with exits."""
        for name, reached in zip(rates.exits.after, rates.reached[1:], strict=True):
            self._seen.append((self._depth(name), rates.threshold, reached.value))

    def rates(self, exits: Exits, threshold: float) -> ExitRates:
        """What is believed of exits; never that more inputs get further than have got there."""
        reached = [1.0]
        for name in exits.after:
            reached.append(min(reached[-1], self._beyond(self._depth(name), threshold)))
        return ExitRates(exits, threshold, tuple(Estimate(value, value, value) for value in reached))

    def priced(self, edits: Mapping[str, tuple[GraphEdit, Recipe]]) -> dict[str, tuple[dict[str, Estimate], dict[str, Estimate]]]:
        """What each candidate is believed to cost, and the least that it can: every input leaving at its first exit.

        Args:
            edits: of candidates with exits, and their recipes.
        """

        def alike(some: list[tuple[GraphEdit, Recipe]]) -> Iterable[tuple[dict[str, Estimate], dict[str, Estimate]]]:
            exits, prepared = some[0][0].exits, self._runner.at(some[0][1])
            assert exits is not None
            shapes = Shapes.concatenate([edit.shapes(prepared.graph) for edit, _ in some])
            believed = prepared.costs(shapes, [self.rates(exits, _threshold(recipe)) for _, recipe in some])
            first = ExitRates.of(exits, 0.0, np.zeros(1, dtype=np.int64))
            least = ExitRates(exits, 0.0, tuple(Estimate.exact(e.value) for e in first.reached))
            return zip(believed, prepared.costs(shapes, [least] * len(some)), strict=True)

        priced = in_groups(list(edits.values()), lambda one: (one[0].exits, id(self._runner.at(one[1]))), alike)
        return dict(zip(edits, priced, strict=True))

    @cached_property
    def _graph(self) -> ModelGraph:
        return self._runner.prepared.graph

    def _beyond(self, depth: float, threshold: float) -> float:
        """The share of inputs that are not sure enough at a depth."""
        weights, values = [_PRIOR_WEIGHT], [threshold ** (depth / max(1 - depth, 1e-6))]
        for at, level, value in self._seen:
            weights.append(math.exp(-(((at - depth) / _NEAR_DEPTH) ** 2) - ((level - threshold) / _NEAR_THRESHOLD) ** 2))
            values.append(value)
        return float(np.average(values, weights=weights))

    def _depth(self, name: str) -> float:
        first = staged(self._graph, Exits((name,)))[0]
        return float(first.count_macs(first.baseline())[0]) / max(self._graph.macs, 1)


def _threshold(recipe: Recipe) -> float:
    """Of the recipe's exits."""
    return next(float(late["threshold"]) for step in recipe.steps if "threshold" in (late := step.split_config()[1]))
