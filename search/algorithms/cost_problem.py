"""A search problem as a caller of ``compareto.optimizer`` states it: ranges by name, a vectorised cost function, constraints on its costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.metric import Metric
from search.constraint import Constraint
from search.dimension import RANGES
from search.expressions import parse_constraint
from search.metric_names import MetricNames
from search.space import Space

__all__ = ["CandidateRule", "CostFunction", "CostProblem", "flat_space"]

Candidate = dict[str, Any]
CostFunction = Callable[[list[Candidate]], Mapping[str, Any]]
CandidateRule = Callable[[Candidate], bool]
_Array = NDArray[np.float64]
_PROBES = 512
_MARGIN = 0.01


@dataclass(frozen=True)
class _CostNames:
    """What constraints may name."""

    all: tuple[str, ...]

    def resolve(self, name: str) -> tuple[str, Metric]:
        if name not in self.all:
            raise UserError(f"unknown cost {name!r}; accepted: {', '.join(self.all) or 'none'}{near_miss(name, self.all)}")
        return name, Metric(name, "", "min", "exact")


def flat_space(ranges: Mapping[str, Any]) -> Space:
    """The space of ``{name: range}``.

    Raises:
        UserError: no range, or every malformed one.
    """
    if not isinstance(ranges, Mapping) or not ranges or not all(isinstance(name, str) and name for name in ranges):
        raise UserError(f"space: expected names with ranges, such as {{'ratio': {{'uniform': [0, 0.9]}}}}, got {ranges!r}")
    problems = []
    for name, body in ranges.items():
        if not isinstance(body, Mapping) or len(body) != 1 or next(iter(body)) not in RANGES:
            problems.append(f"space[{name!r}]: expected a mapping with one key of {', '.join(RANGES)}, got {body!r}")
    if not problems:
        space, found = Space.parse([{"space": dict(ranges)}])
        problems = [f"space[{path[2]!r}]: {message}" for path, message in found]
    if problems:
        raise UserError("\n".join(problems))
    return Space((), tuple(replace(d, name=str(d.path[2]), path=d.path[2:]) for d in space.dimensions))


@dataclass(frozen=True)
class CostProblem:
    """What is known of candidates before any of them is evaluated.

    Attributes:
        space: of candidates.
        function: costs of a list of candidates by name, each ``[candidates]``, smaller is better.
        constraints: expressions over costs such as ``"size <= 0.4"``, or functions of one candidate that say whether it is allowed.
        seed: of the candidates that are looked at to learn the costs' names and ranges.
    """

    space: Space
    function: CostFunction
    constraints: tuple[str | CandidateRule, ...]
    seed: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Of the costs."""
        return tuple(self._called(self._probes[:2]))

    @cached_property
    def _probes(self) -> list[Candidate]:
        rng = np.random.default_rng([self.seed, 1])
        return [self.space.sample(rng) for _ in range(_PROBES)]

    @cached_property
    def _rules(self) -> tuple[list[Constraint], list[CandidateRule]]:
        for rule in self.constraints:
            if not isinstance(rule, str) and not callable(rule):
                raise UserError(f"constraints: {rule!r} is neither an expression such as 'size <= 0.4' nor a function of a candidate")
        names = cast("MetricNames", _CostNames(self.names))
        parsed = [parse_constraint(rule, names) for rule in self.constraints if isinstance(rule, str)]
        for constraint in parsed:
            if constraint.names_baseline:
                raise UserError(f"constraints: {constraint.text!r} compares with 'baseline', which only experiments have; accepted: costs and numbers")
        return parsed, [rule for rule in self.constraints if callable(rule)]

    def prices(self, candidates: Sequence[Mapping[str, Any]]) -> _Array:
        """``[candidates, costs]``; a row of NaN where a constraint is broken.

        Raises:
            UserError: the cost function returns something else than finite numbers, one for each candidate.
        """
        points = [dict(c) for c in candidates]
        if not points:
            return np.zeros((0, len(self.names)))
        costs = self._called(points)
        if tuple(costs) != self.names:
            raise UserError(f"costs: returned {', '.join(costs) or 'nothing'} where it returned {', '.join(self.names) or 'nothing'} before")
        parsed, callables = self._rules
        allowed = np.ones(len(points), dtype=np.bool_)
        for constraint in parsed:
            allowed &= constraint.satisfied(costs)
        for i in np.flatnonzero(allowed):
            allowed[i] = all(rule(points[i]) for rule in callables)
        table = np.column_stack(list(costs.values())) if costs else np.zeros((len(points), 0))
        return np.where(allowed[:, None], table, np.nan)

    def feasible(self, candidates: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
        """Which of the candidates keep every constraint."""
        if not self.names:
            return np.array([all(rule(dict(c)) for rule in self._rules[1]) for c in candidates], dtype=np.bool_)
        return np.asarray(np.isfinite(self.prices(candidates)).all(axis=1))

    def box(self) -> tuple[_Array, _Array]:
        """Reference and scale of the costs, ``[costs]`` each: from the highest to the lowest among random candidates, feasible ones where there are any."""
        prices = self.prices(self._probes)
        kept = prices[np.isfinite(prices).all(axis=1)]
        table = kept if len(kept) > 1 else np.column_stack(list(self._called(self._probes).values()) or [np.zeros((_PROBES, 0))])
        span = np.ptp(table, axis=0)
        span = np.where(span > 0, span, np.maximum(np.abs(table.max(axis=0)), 1.0))
        # The dearest candidate has the best quality there is, so that it counts a little, too.
        return table.max(axis=0) + _MARGIN * span, (1 + _MARGIN) * span

    def _called(self, points: list[Candidate]) -> dict[str, _Array]:
        returned = self.function([dict(point) for point in points])
        if not isinstance(returned, Mapping) or not all(isinstance(name, str) for name in returned):
            raise UserError(f"costs: expected a mapping of names to arrays, got {type(returned).__name__}")
        costs = {}
        for name, values in returned.items():
            try:
                column = np.asarray(values, dtype=np.float64)
            except (TypeError, ValueError):
                raise UserError(f"costs[{name!r}] are not numbers: {values!r}") from None
            if column.shape != (len(points),):
                raise UserError(f"costs[{name!r}] has shape {column.shape}; accepted: ({len(points)},), one number for each candidate")
            if not np.isfinite(column).all():
                i = int(np.flatnonzero(~np.isfinite(column))[0])
                raise UserError(f"costs[{name!r}] is {column[i]} for {points[i]}; accepted: finite numbers (what is not allowed is for constraints to say)")
            costs[name] = column
        return costs
