"""From a recipe back to the point of a space at which it lies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from compressors.errors import UserError
from compressors.recipe import Recipe
from search.dimension import Dimension, Path
from search.space import Space

__all__ = ["point_of"]


def point_of(space: Space, recipe: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The point whose recipe is ``recipe``, a plain list of steps with every setting; None where the space has none.

    A step that the space has as an option may be missing, alternatives are taken by name; all that the space fixes must be equal, to the default where it says
    nothing.
    """
    wanted = Recipe.from_plain(recipe).fingerprint
    for values in _aligned(space, list(space.plain), list(recipe), 0):
        try:
            if space.recipe(values).fingerprint == wanted:
                return space.normalise(values)
        except UserError:
            continue
    return None


def _aligned(space: Space, templates: Sequence[Any], steps: Sequence[Mapping[str, Any]], index: int) -> Iterator[dict[str, Any]]:
    """Values of every way in which the steps can be those of the templates from ``index`` on."""
    if index == len(templates):
        if not steps:
            yield {}
        return
    for taken, values in _matches(space, templates[index], (index,), steps[0] if steps else None):
        for rest in _aligned(space, templates, steps[taken:], index + 1):
            yield {**values, **rest}


def _matches(space: Space, template: Mapping[str, Any], path: Path, step: Mapping[str, Any] | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """How many steps (none or one) a template takes, and the values that this means."""
    ((name, body),) = template.items()
    path = (*path, name)
    chosen = next((d for d in space.dimensions if d.path == path), None)
    if name == "optional":
        assert chosen is not None
        yield 0, {chosen.name: False}
        yield from ((taken, {chosen.name: True, **values}) for taken, values in _matches(space, body, path, step) if taken)
    elif name == "one_of":
        assert chosen is not None
        for i, child in enumerate(body):
            yield from ((taken, {chosen.name: chosen.choices[i], **values}) for taken, values in _matches(space, child, (*path, i), step))
    elif step is not None and name in step:
        values = {d.name: _found(step[name], d, len(path)) for d in space.dimensions if d.path[: len(path)] == path}
        if _MISSING not in values.values():
            yield 1, values


_MISSING = object()


def _found(settings: Any, dimension: Dimension, depth: int) -> Any:
    for part in dimension.path[depth:]:
        try:
            settings = settings[part]
        except (KeyError, IndexError, TypeError):
            return _MISSING
    return settings
