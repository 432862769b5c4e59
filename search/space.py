"""The search space of a recipe with ranges: its dimensions, and the way from a point to a recipe and back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from compressors.recipe import Recipe
from search.dimension import RANGES, Dimension, Path, is_number, spell

__all__ = ["Dimension", "Problem", "Space"]

_INSIDE = 0.6180339887
"""Where between the ends of a range a value is no whole number."""

Problem = tuple[Path, str]
"""Where something is wrong, and what."""


@dataclass(frozen=True)
class Space:
    """A recipe with ranges in it.

    Attributes:
        plain: the list of steps as written.
        dimensions: its ranges in order; a condition always precedes what depends on it.
    """

    plain: tuple[dict[str, Any], ...]
    dimensions: tuple[Dimension, ...]

    @classmethod
    def parse(cls, steps: Sequence[Any]) -> tuple[Self, list[Problem]]:
        """What can be read of a recipe, and every malformed range or step with its path."""
        problems: list[Problem] = []
        found: list[Dimension] = []
        for i, step in enumerate(steps):
            found += _of_step(step, (i,), (), problems)
        return cls(tuple(steps), _unique(found)), problems

    @classmethod
    def from_plain(cls, steps: Sequence[Any]) -> Self:
        """Read the ranges of a recipe.

        Raises:
            UserError: every malformed range or step, with its place.
        """
        space, problems = cls.parse(steps)
        if problems:
            raise UserError("\n".join(f"{spell(path)}: {message}" for path, message in problems))
        return space

    def to_plain(self) -> list[dict[str, Any]]:
        """The list of steps that ``from_plain`` reads."""
        return list(self.plain)

    @cached_property
    def _by_name(self) -> dict[str, Dimension]:
        return {dimension.name: dimension for dimension in self.dimensions}

    @cached_property
    def _by_path(self) -> dict[Path, Dimension]:
        return {dimension.path: dimension for dimension in self.dimensions}

    def normalise(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The point without the dimensions that do not count, values in canonical form: equal points are equal recipes.

        Raises:
            UserError: a dimension is unknown, missing or out of its range.
        """
        unknown = [name for name in values if name not in self._by_name]
        if unknown:
            raise UserError(f"unknown dimensions {unknown}; accepted: {', '.join(self._by_name) or 'none'}")
        point: dict[str, Any] = {}
        for dimension in self.dimensions:
            if dimension.counts(point):
                if dimension.name not in values:
                    raise UserError(f"no value for {dimension.name!r}")
                point[dimension.name] = dimension.canonical(values[dimension.name])
        return point

    def plain_recipe(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The plain list of steps at a point."""
        point = self.normalise(values)
        steps = (self._step(step, (i,), point) for i, step in enumerate(self.plain))
        return [step for step in steps if step is not None]

    def recipe(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe at a point."""
        return Recipe.from_plain(self.plain_recipe(values))

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """A point, uniform over each dimension that counts."""
        return self.decode(rng.random(len(self.dimensions)))

    def encode(self, values: Mapping[str, Any]) -> NDArray[np.float64]:
        """A point as ``[dimensions]`` in [0, 1]; what does not count stands at 0.5."""
        point = self.normalise(values)
        return np.array([d.encode(point[d.name]) if d.name in point else 0.5 for d in self.dimensions])

    def decode(self, code: NDArray[np.float64]) -> dict[str, Any]:
        """The nearest point to ``[dimensions]`` in [0, 1]."""
        return self.normalise({d.name: d.decode(c) for d, c in zip(self.dimensions, code, strict=True)})

    @property
    def size(self) -> int | None:
        """How many different points there are, None where they are not countable."""
        return self._count(())

    def steps(self) -> Iterator[tuple[Path, str, Any]]:
        """Every well-formed step that can be in a recipe: its path, its name, and its settings with ranges in them."""
        for i, step in enumerate(self.plain):
            yield from _leaves(step, (i,))

    def corners(self, path: Path, settings: Any) -> Iterator[dict[str, Any]]:
        """Settings of one step with values for its ranges: each corner of each range at least once."""
        inside, first = self._ranges_in(path)
        yield self._fill(settings, path, first)
        for dimension in inside:
            for corner in dimension.corners[1:]:
                yield self._fill(settings, path, {**first, dimension.name: corner})

    def between(self, path: Path, settings: Any) -> Iterator[tuple[Dimension, dict[str, Any]]]:
        """Settings of one step as ``corners`` begins, but for a value inside one range of real numbers; of each such range."""
        inside, first = self._ranges_in(path)
        for dimension in inside:
            if dimension.kind in ("uniform", "loguniform"):
                yield dimension, self._fill(settings, path, {**first, dimension.name: dimension.low + _INSIDE * (dimension.high - dimension.low)})

    def _ranges_in(self, path: Path) -> tuple[list[Dimension], dict[str, Any]]:
        """The ranges of one step, and a corner of each."""
        inside = [d for d in self.dimensions if d.path[: len(path)] == path]
        return inside, {d.name: d.corners[0] for d in inside}

    def _count(self, context: tuple[tuple[str, Any], ...]) -> int | None:
        total = 1
        for dimension in (d for d in self.dimensions if d.requires == context):
            if any((dimension.name, choice) in d.requires for d in self.dimensions for choice in dimension.choices):
                counts = [self._count((*context, (dimension.name, choice))) for choice in dimension.choices]
            else:
                counts = [dimension.count]
            known = [count for count in counts if count is not None]
            if len(known) < len(counts):
                return None
            total *= sum(known)
        return total

    def _step(self, step: Any, path: Path, point: Mapping[str, Any]) -> dict[str, Any] | None:
        ((name, body),) = step.items()
        if name == "optional":
            return self._step(body, (*path, name), point) if point[self._by_path[*path, name].name] else None
        if name == "one_of":
            dimension = self._by_path[*path, name]
            chosen = dimension.choices.index(point[dimension.name])
            return self._step(body[chosen], (*path, name, chosen), point)
        return {name: self._fill(body if body is not None else {}, (*path, name), point)}

    def _fill(self, node: Any, path: Path, point: Mapping[str, Any]) -> Any:
        if path in self._by_path:
            return point[self._by_path[path].name]
        if isinstance(node, Mapping):
            return {key: self._fill(value, (*path, key), point) for key, value in node.items()}
        if isinstance(node, list):
            return [self._fill(value, (*path, i), point) for i, value in enumerate(node)]
        return node


def _leaves(step: Any, path: Path) -> Iterator[tuple[Path, str, Any]]:
    if not isinstance(step, Mapping) or len(step) != 1:
        return
    ((name, body),) = step.items()
    if name == "optional":
        yield from _leaves(body, (*path, name))
    elif name == "one_of":
        for i, child in enumerate(body if isinstance(body, list) else ()):
            yield from _leaves(child, (*path, name, i))
    elif body is None or isinstance(body, Mapping):
        yield (*path, name), str(name), body or {}


def _of_step(step: Any, path: Path, requires: tuple[tuple[str, Any], ...], problems: list[Problem]) -> Iterator[Dimension]:
    if not isinstance(step, Mapping) or len(step) != 1:
        problems.append((path, f"expected one step, such as 'prune: {{ratio: 0.5}}', got {step!r}"))
        return
    ((name, body),) = step.items()
    path = (*path, name)
    if name == "optional":
        if not isinstance(body, Mapping) or len(body) != 1:
            problems.append((path, f"expected one step, got {body!r}"))
            return
        child = next(iter(body))
        dimension = Dimension(f"optional.{child}", path, "choice", (False, True), requires=requires)
        yield dimension
        yield from _of_step(body, path, (*requires, (spell(path), True)), problems)
    elif name == "one_of":
        if not isinstance(body, list) or not body or not all(isinstance(s, Mapping) and len(s) == 1 for s in body):
            problems.append((path, f"expected a list of steps, got {body!r}"))
            return
        labels = _labels([str(next(iter(s))) for s in body])
        dimension = Dimension("one_of", path, "choice", tuple(labels), requires=requires)
        yield dimension
        for i, child in enumerate(body):
            yield from _of_step(child, (*path, i), (*requires, (spell(path), labels[i])), problems)
    elif body is not None and not isinstance(body, Mapping):
        problems.append((path, f"expected a mapping of settings, got {body!r}"))
    else:
        yield from _of_value(body or {}, path, str(name), requires, problems)


def _of_value(node: Any, path: Path, name: str, requires: tuple[tuple[str, Any], ...], problems: list[Problem]) -> Iterator[Dimension]:
    if isinstance(node, Mapping):
        kinds = [key for key in node if key in RANGES]
        if kinds and len(node) > 1:
            problems.append((path, f"a range is a mapping with one key of {', '.join(RANGES)}, got {dict(node)!r}"))
        elif kinds:
            dimension = _range(kinds[0], node[kinds[0]], path, name, requires, problems)
            if dimension is not None:
                yield dimension
        else:
            for key, value in node.items():
                yield from _of_value(value, (*path, key), f"{name}.{key}", requires, problems)
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _of_value(value, (*path, i), f"{name}[{i}]", requires, problems)


def _range(kind: Any, body: Any, path: Path, name: str, requires: tuple[tuple[str, Any], ...], problems: list[Problem]) -> Dimension | None:
    def wrong(message: str) -> None:
        problems.append((path, message))

    if not isinstance(body, list):
        wrong(f"{kind} {body!r} is not a list; accepted: {'[value, ...]' if kind == 'choice' else '[low, high]'}")
        return None
    if kind == "choice":
        if not body:
            wrong("choice [] is empty; accepted: at least one value")
        elif any(isinstance(v, Mapping) and set(v) & set(RANGES) for v in body):
            wrong(f"choice {body!r} holds a range; accepted: plain values")
        elif any(v in body[:i] and type(v) is type(body[body.index(v)]) for i, v in enumerate(body)):
            wrong(f"choice {body!r} names a value twice")
        else:
            return Dimension(name, path, "choice", tuple(sorted(body) if all(map(is_number, body)) else body), requires=requires)
        return None
    if len(body) != 2 or not all(map(is_number, body)):
        wrong(f"{kind} {body!r} is not a range; accepted: [low, high], two numbers")
        return None
    low, high = body
    if kind == "int" and not all(isinstance(v, int) for v in body):
        wrong(f"int {body!r} is not a range; accepted: [low, high], two integers")
    elif not (math.isfinite(low) and math.isfinite(high)):
        wrong(f"{kind} {body!r} is not finite; accepted: [low, high], two finite numbers")
    elif low > high:
        wrong(f"low {low} is above high {high}; accepted: low <= high")
    elif kind == "loguniform" and low <= 0:
        wrong(f"low {low} of loguniform is not above 0; accepted: 0 < low <= high")
    else:
        return Dimension(name, path, kind, low=low, high=high, requires=requires)
    return None


def _unique(dimensions: list[Dimension]) -> tuple[Dimension, ...]:
    """Names that occur twice become the full place; conditions, which name places until here, follow."""
    names = [d.name for d in dimensions]
    final = {spell(d.path): spell(d.path) if names.count(d.name) > 1 else d.name for d in dimensions}
    return tuple(replace(d, name=final[spell(d.path)], requires=tuple((final[place], value) for place, value in d.requires)) for d in dimensions)


def _labels(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name}#{names[: i + 1].count(name)}" for i, name in enumerate(names)]
