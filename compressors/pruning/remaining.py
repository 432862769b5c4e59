"""The graph of a model that was compressed before, for criteria: its axes hold the units that are left, its parameters have the names that they have now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from compressors.graph.factors import Factorised
from compressors.graph.model_graph import Axis, ModelGraph, ParameterDim
from compressors.graph.surgery import kept_units

__all__ = ["remaining"]


def remaining(graph: ModelGraph, model: nn.Module) -> ModelGraph:
    """Axes and parameters of ``model``, which was made from the traced one; everything else is as in ``graph``.

    Args:
        graph: the trace of the uncompressed model.
        model: cut, factorised, or neither.
    """
    kept, modules = kept_units(model), dict(model.named_modules())
    axes = tuple(_left(axis, kept[axis.name]) if axis.name in kept else axis for axis in graph.axes)
    return replace(graph, axes=axes, parameter_dims=tuple(found for entry in graph.parameter_dims for found in _located(entry, modules)))


def _left(axis: Axis, units: Sequence[int]) -> Axis:
    modules = tuple(axis.modules[i] for i in units) if axis.kind == "blocks" else axis.modules
    return replace(axis, size=len(units), modules=modules)


def _located(entry: ParameterDim, modules: Mapping[str, nn.Module]) -> tuple[ParameterDim, ...]:
    owner, _, attribute = entry.parameter.rpartition(".")
    layer = modules.get(owner)
    if not isinstance(layer, Factorised):
        return (entry,)
    return tuple(replace(entry, parameter=f"{owner}.{name}", dim=dim) for name, dim in layer.located(attribute, entry.dim))
