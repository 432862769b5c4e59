"""Static validation of a recipe with ranges: every step at the corners of its ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pydantic

from compressors.compressor import Compressor
from compressors.errors import UserError, near_miss
from compressors.recipe import misplaced_steps, step_class, step_names
from search.dimension import spell
from search.space import Space
from search.validation import problems_of

__all__ = ["recipe_problems"]


def recipe_problems(steps: Sequence[Any]) -> list[str]:
    """Every problem of a recipe with ranges, each as ``place: what, what is accepted``."""
    space, malformed = Space.parse(steps)
    problems = [f"{spell(path)}: {message}" for path, message in malformed]
    bad = [path for path, _ in malformed]
    for path, name, settings in space.steps():
        try:
            cls = step_class(name)
        except UserError as error:
            wrapper = near_miss(name, ("optional", "one_of"))
            near = "" if near_miss(name, step_names()) else wrapper
            problems.append(f"{spell(path[:-1])}: {error}{near}")
            continue
        found: dict[str, None] = {}
        for corner in space.corners(path, settings):
            for place, message in _step_problems(cls, corner):
                whole = (*path, *place)
                if not any(whole[: len(b)] == b for b in bad):
                    found[f"{spell(whole)}: {message}"] = None
        for dimension, inside in () if found else space.between(path, settings):
            if _step_problems(cls, inside):
                whole_numbers = f"{{int: [{dimension.low:g}, {dimension.high:g}]}}"
                found[f"{spell(dimension.path)}: a {dimension.kind} range has fractions; accepted: whole numbers, {whole_numbers}"] = None
        problems += found
    places = [(int(path[0]), name) for path, name, _ in space.steps()]
    places += [(int(path[0]), "") for path, _, _ in space.steps() if "optional" in path]
    problems += [f"{spell((i,))}: {message}" for i, message in misplaced_steps(places)]
    return problems


def _step_problems(cls: type[Compressor], settings: dict[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    try:
        cls.from_config(settings)
    except pydantic.ValidationError as error:
        return problems_of(error, settings, cls)
    return []
