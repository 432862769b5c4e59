"""Scaling the units of a live model's widths: what they are on the model as earlier steps have left it, how large they are, and their scaling in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from compressors.context import Context, logits_of
from compressors.errors import CompressionError
from compressors.evaluating import evaluating
from compressors.graph.factors import Factorised
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import kept_units
from compressors.quantization.rescaling import Reader, Scaled, Width

__all__ = ["LARGEST_FACTOR", "UnitScales", "check_same_function", "selected"]

LARGEST_FACTOR = 1e3
"""No unit is scaled by more in one go: a unit that hardly occurs is no reason for weights that overflow."""

_TOLERANCE = 1e-3


def selected(graph: ModelGraph, widths: Iterable[Width], include: Sequence[str], exclude: Sequence[str]) -> list[Width]:
    """Widths of which the patterns leave every layer."""
    names = {graph.sites[i].name for i in graph.select_sites(include, exclude)}
    return [w for w in widths if {r.weight.name for r in w.readers} | ({w.maker.weight.name} if w.maker.weight else set()) <= names]


class UnitScales:
    """The widths of a live model.

    Args:
        model: is changed in place.
        graph: of the uncompressed model.
    """

    def __init__(self, model: nn.Module, graph: ModelGraph) -> None:
        self.model, self.graph = model, graph
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self.names = Counter(id(parameter) for parameter in self.parameters.values())
        kept = kept_units(model)
        self.sizes = [len(kept[axis.name]) if axis.name in kept else axis.size for axis in graph.axes]
        self.segments = {(d.parameter, d.dim): d.segments[0] for d in graph.parameter_dims}

    def obstacle(self, width: Width) -> str | None:
        """What earlier steps have made of the layers of a width that forbids to scale it; None where nothing does."""
        scaled = (*width.maker.scaled, *(reader.weight for reader in width.readers))
        modules = dict(self.model.named_modules())
        for s in (*scaled, *([width.maker.weight] if width.maker.weight else [])):
            layer = modules.get(s.name.rpartition(".")[0])
            if isinstance(layer, Factorised):
                return layer.described
        if any(s.name not in self.parameters for s in scaled):
            return "a dropped block"
        if any(self.names[id(self.parameters[s.name])] > 1 for s in scaled):
            return "a shared weight"
        return None

    def largest(self, width: Width, scaled: Scaled, norm: str | None = None) -> Tensor:
        """Largest magnitude of each unit in a weight (a batch norm folded into it), of the shape of the width's axes."""
        weight = self.parameters[scaled.name].detach().abs().float()
        if norm is not None:
            weight = weight * self._folded(norm).abs().view(-1, *[1] * (weight.dim() - 1))
        return self.by_unit(width, weight, scaled)

    def by_unit(self, width: Width, values: Tensor, scaled: Scaled) -> Tensor:
        """The maximum over everything but the units, of values that are laid out as a parameter."""
        shape, places = self._layout(scaled, values.shape, width.axes)
        ordered = values.reshape(shape).permute(*places, *(i for i in range(len(shape)) if i not in places))
        return ordered.flatten(len(places)).amax(-1) if len(shape) > len(places) else ordered

    def by_feature(self, width: Width, reader: Reader, features: Tensor) -> Tensor:
        """The maximum of each unit, of values that are laid out as the inputs of a linear layer."""
        segment = self.segments[reader.weight.name, reader.weight.dims[0]]
        shape, places = [self.sizes[axis] for axis in segment], [segment.index(axis) for axis in width.axes]
        ordered = features.reshape(shape).permute(*places, *(i for i in range(len(shape)) if i not in places))
        return ordered.flatten(len(places)).amax(-1) if len(shape) > len(places) else ordered

    def scale(self, width: Width, factors: Tensor) -> None:
        """Divide the units by ``factors`` (positive, of the shape of the width's axes) where they are made, multiply them where they are read."""
        for scaled in width.maker.scaled:
            self._multiply(width, scaled, 1 / factors)
        for reader in width.readers:
            self._multiply(width, reader.weight, factors)

    def _multiply(self, width: Width, scaled: Scaled, factors: Tensor) -> None:
        parameter = self.parameters[scaled.name]
        shape, places = self._layout(scaled, parameter.shape, width.axes)
        # Axes in the order in which the parameter has them.
        order = sorted(range(len(places)), key=places.__getitem__)
        spread = [factors.shape[place] if (place := (places.index(i) if i in places else -1)) >= 0 else 1 for i in range(len(shape))]
        with torch.no_grad():
            parameter.copy_((parameter.reshape(shape) * factors.to(parameter).permute(order).reshape(spread)).reshape(parameter.shape))

    def _layout(self, scaled: Scaled, shape: Sequence[int], axes: Sequence[int]) -> tuple[list[int], list[int]]:
        """The parameter's shape with the dimensions that run over units taken apart into axes; and where the axes are in it."""
        split: list[int] = []
        where: dict[int, int] = {}
        for dim, size in enumerate(shape):
            segment = self.segments.get((scaled.name, dim), ()) if dim in scaled.dims else ()
            where |= {axis: len(split) + i for i, axis in enumerate(segment)}
            split += [self.sizes[axis] for axis in segment] or [size]
        if prod(split) != prod(shape):
            raise CompressionError(f"{scaled.name} is {list(shape)}, not as the trace says")
        return split, [where[axis] for axis in axes]

    def _folded(self, norm: str) -> Tensor:
        """What a batch norm multiplies each channel by."""
        layer = self.model.get_submodule(norm)
        if not isinstance(layer, nn.modules.batchnorm._NormBase):  # noqa: SLF001 - the one common base
            return torch.ones(1)
        module: Any = layer
        factors: Tensor = module.weight.detach() / (module.running_var + module.eps).sqrt()
        return factors


def check_same_function(before: nn.Module, after: nn.Module, context: Context) -> None:
    """Compare the models on the example inputs.

    Raises:
        CompressionError: they differ by more than rounding does: the model's code computes something that its trace does not show.
    """
    outputs = []
    for model in (before, after):
        device = next(model.parameters()).device
        with torch.no_grad(), evaluating(model):
            outputs.append(logits_of(model(**{name: value.to(device) for name, value in context.example_inputs.items()})).double())
    difference = float((outputs[1] - outputs[0]).abs().max() / outputs[0].abs().max().clamp(min=1e-12))
    if not difference <= _TOLERANCE:
        raise CompressionError(f"scaled units change the outputs by {difference:.2g} of the largest one: the model reads them in ways its trace does not show")
