"""Explicit ratios of layers: which axes a pattern stands for."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Mapping

from compressors.errors import CompressionError, near_miss
from compressors.graph.model_graph import Axis, ModelGraph

__all__ = ["explicit_ratios", "layer_problems"]

_BY_NAME = ("hidden", "blocks")
"""Kinds that reach through the whole model: a pattern stands for such an axis only where it is its name."""


def layer_problems(graph: ModelGraph, patterns: Iterable[str]) -> Iterator[str]:
    """What is wrong with the patterns of explicit ratios: nothing prunable matches, or two match the same axis."""
    owners: dict[str, str] = {}
    for pattern in patterns:
        matched = [axis for axis in graph.prunable if _stands_for(pattern, axis)]
        if not matched:
            names = sorted({name for axis in graph.prunable for name in _names(axis)})
            yield f"{pattern!r} matches no prunable axis{near_miss(pattern, names)}"
        for axis in matched:
            if axis.name in owners:
                yield f"both {owners[axis.name]!r} and {pattern!r} match {axis.name!r}; accepted: one ratio for each layer"
            owners[axis.name] = pattern


def explicit_ratios(graph: ModelGraph, layers: Mapping[str, float]) -> dict[str, float]:
    """The ratio of each axis that a pattern of ``layers`` matches, by the axis's name.

    Raises:
        CompressionError: see ``layer_problems``.
    """
    problems = list(layer_problems(graph, layers))
    if problems:
        raise CompressionError(f"prune: layers: {'; '.join(problems)}")
    return {axis.name: ratio for pattern, ratio in layers.items() for axis in graph.prunable if _stands_for(pattern, axis)}


def _names(axis: Axis) -> tuple[str, ...]:
    return (axis.name,) if axis.kind in _BY_NAME else (axis.name, *axis.modules)


def _stands_for(pattern: str, axis: Axis) -> bool:
    if axis.kind in _BY_NAME:
        return pattern == axis.name
    return any(fnmatch.fnmatchcase(name, pattern) for name in _names(axis))
