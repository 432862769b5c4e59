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
_QUALITY = "quality"
_HUGE = 1e9


@dataclass(frozen=True)
class _CostNames:
    """What constraints may name."""

    all: tuple[str, ...]

    def resolve(self, name: str) -> tuple[str, Metric]:
        if name == _QUALITY and name not in self.all:
            return name, Metric(name, "", "max", "observed")
        if name not in self.all:
            raise UserError(f"unknown cost {name!r}; accepted: {', '.join((*self.all, _QUALITY))}{near_miss(name, (*self.all, _QUALITY))}")
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
        constraints: expressions over costs such as ``"size <= 0.4"``, lower bounds of the quality such as ``"quality >= 0.9"``, or functions of one candidate
            that say whether it is allowed.
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
            if constraint.observed and len(constraint.names) > 1:
                raise UserError(f"constraints: {constraint.text!r} names quality beside costs; accepted: either")
        return parsed, [rule for rule in self.constraints if callable(rule)]

    @cached_property
    def floor(self) -> float:
        """Quality below which a candidate is of no use; NaN where no constraint says so.

        Raises:
            UserError: a constraint on quality is no lower bound.
        """
        bounds = [c for c in self._rules[0] if c.observed]
        if not bounds:
            return float("nan")
        for constraint in bounds:
            if not constraint.satisfied({_QUALITY: _HUGE}) or constraint.satisfied({_QUALITY: -_HUGE}):
                raise UserError(f"constraints: {constraint.text!r} is no lower bound of the quality; accepted: such as 'quality >= 0.9'")
        low, high = -_HUGE, _HUGE
        while low < (middle := (low + high) / 2) < high:
            low, high = (low, middle) if all(c.satisfied({_QUALITY: middle}) for c in bounds) else (middle, high)
        return high

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
        for constraint in (c for c in parsed if not c.observed):
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
        """Reference and scale of the costs, ``[costs]`` each: from the highest to the lowest that were found, feasible ones where there are any."""
        prices = self.prices(self._probes)
        kept = prices[np.isfinite(prices).all(axis=1)]
        table = kept if len(kept) > 1 else np.column_stack(list(self._called(self._probes).values()) or [np.zeros((_PROBES, 0))])
        span = np.ptp(table, axis=0)
        span = np.where(span > 0, span, np.maximum(np.abs(table.max(axis=0)), 1.0))
        # Random candidates miss the corner where nothing is saved, and gains are counted from there.
        dearest = table.max(axis=0) if len(kept) < 2 else np.array([self._climbed(i, prices) for i in range(len(self.names))])
        # The dearest candidate has the best quality there is, so that it counts a little, too.
        return dearest + _MARGIN * span, dearest - table.max(axis=0) + (1 + _MARGIN) * span

    def _climbed(self, cost: int, prices: _Array) -> float:
        """The highest that a cost becomes from the dearest random candidate on, one dimension at a time."""
        at = int(np.nanargmax(prices[:, cost]))
        candidate, highest = self._probes[at], float(prices[at, cost])
        for dimension in (*self.space.dimensions, *self.space.dimensions):
            moved = [{**candidate, dimension.name: corner} for corner in dimension.corners]
            found = np.where(np.isfinite(column := self.prices(moved)[:, cost]), column, -np.inf)
            if found.max() > highest:
                candidate, highest = moved[int(np.argmax(found))], float(found.max())
        return highest

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
