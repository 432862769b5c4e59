"""Depthwise-separable replacement: a dense spatial convolution becomes a kernel for each input channel, and a convolution of kernel 1 behind it [Howard2017]_.

It starts from the nearest separable weight: what input channel ``i`` sends to all outputs is a matrix ``[outputs, places]``, and of each the best
approximation of rank 1 is kept [Eckart1936]_; no data is read. Where every such matrix has rank 1 nothing is lost. Elsewhere much is: a ``distill`` step
should follow, and a ``reconstruct`` step before it fits the convolutions of kernel 1 to what the original layers gave.

.. [Howard2017] Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, arXiv 1704.04861.
.. [Eckart1936] Eckart and Young, The approximation of one matrix by another of lower rank, Psychometrika 1, 1936.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError, DivergedError
from compressors.graph.factors import Separable, replace_layer, separate
from compressors.graph.model_graph import ModelGraph, Site
from compressors.graph.sharing import tie
from compressors.graph.surgery import note

__all__ = ["SEPARABLE_ERROR", "DepthwiseSeparable", "separable_errors", "separated"]

SEPARABLE_ERROR = "separable_error"
"""The score that the order ``least_error`` is planned on."""

_ELIGIBLE = "convolutions in one or two dimensions with a kernel above 1, one group, several channels on both sides and a weight of their own"


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class DepthwiseSeparable(Compressor):
    """Replace dense spatial convolutions; stride, padding and dilation stay. One that would not shrink stays whole.

    Attributes:
        fraction: of the convolutions that can be replaced, in (0, 1]; at least one is.
        order: which are replaced first: those that lose the least of their weight (relative squared error), or those that save the ``most_macs``.
    """

    name: ClassVar[str] = "depthwise_separable"

    fraction: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    order: Literal["least_error", "most_macs"] = "least_error"

    def criteria(self) -> tuple[str, ...]:
        """Errors, where they decide."""
        return (SEPARABLE_ERROR,) if self.order == "least_error" and self.fraction < 1 else ()

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """See ``Compressor.problems``."""
        # Not super(), which the class that slots make does not know.
        yield from Compressor.problems(self, graph)
        if not self._layers(graph):
            yield ("include" if self.include or not self.exclude else "exclude"), self._none(graph)

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:
        """Choose the convolutions. See ``Compressor.plan``."""
        layers = self._layers(graph)
        if not layers:
            raise CompressionError(f"{self.name}: {self._none(graph)}")
        widths = edit.shapes(graph).widths
        saved: dict[str, int] = {}
        for site in layers:
            # Gone with its block, or replaced by an earlier step.
            if site.module in edit.separable or not site.elements.evaluate(widths)[0]:
                continue
            if site.name in edit.sparse:
                raise CompressionError(f"{self.name}: {site.name} is sparse by an earlier sparsify; accepted: {self.name} before sparsify")
            either = np.repeat(widths, 2, axis=0)
            either[1, graph.axis_index(f"{site.module}:dense")] = 0
            whole, parts = site.elements.evaluate(either)
            if parts < whole:
                macs = [operator.macs.evaluate(either) for operator in graph.operators if operator.site is not None and graph.sites[operator.site] is site]
                saved[site.module] = sum(int(before - after) for before, after in macs)
        if self.order == "least_error" and self.criteria():
            ranked = sorted(saved, key=lambda module: float(scores[SEPARABLE_ERROR][f"{module}.weight"][0]))
        else:
            ranked = sorted(saved, key=lambda module: -saved[module])
        chosen = set(ranked[: max(1, int(self.fraction * len(ranked) + 0.5))])
        for group in edit.shared:
            # One weight is replaced for all that share it.
            chosen |= {module for module in group if module in saved} if chosen & set(group) else set()
        return replace(edit, separable=tuple(sorted({*edit.separable, *chosen})))

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """A copy with two convolutions in place of each that was planned. See ``Compressor.apply``."""
        smaller = copy.deepcopy(model)
        done: list[str] = list((getattr(smaller, "compareto_structure", None) or {}).get("separable", ()))
        before, planned = sum(p.numel() for p in smaller.parameters()), [name for name in edit.separable if name not in done]
        for name in planned:
            replace_layer(smaller, name, separated(smaller.get_submodule(name)))
        note(smaller, context.graph, separable=sorted({*done, *planned}))
        tie(smaller, edit.shared)
        after = sum(p.numel() for p in smaller.parameters())
        context.log(f"{self.name}: {len(planned)} of {len(self._layers(context.graph))} convolutions: {before:,} parameters before, {after:,} after")
        return smaller

    def _layers(self, graph: ModelGraph) -> list[Site]:
        return [site for i in graph.select_sites(self.include, self.exclude) if (site := graph.sites[i]).separable]

    def _none(self, graph: ModelGraph) -> str:
        there = [site.module for site in graph.sites if site.separable]
        if not there:
            return f"the model has no convolution that it could replace; accepted: {_ELIGIBLE}"
        given = " and ".join(f"{key} {list(value)}" for key, value in (("include", self.include), ("exclude", self.exclude)) if value)
        return f"{given} leave no convolution that it could replace; accepted: {', '.join(there[:6])}{', ...' if len(there) > 6 else ''}"


def separated(layer: nn.Module) -> Separable:
    """The nearest separable convolution, in the Frobenius norm of its weight; each input channel's two factors are of equal norm.

    Raises:
        DivergedError: its weight is not finite.
    """
    u, s, v = _first_singular(layer)
    made = separate(layer)
    root = s.sqrt()[:, None]
    depthwise, pointwise = root * v, root * u
    # Singular vectors are known but for their sign, which may differ between machines.
    sign = torch.where(depthwise.gather(1, depthwise.abs().argmax(dim=1, keepdim=True)) < 0, -1.0, 1.0).to(depthwise.dtype)
    with torch.no_grad():
        for factor, values in ((made.first, sign * depthwise), (made.second, (sign * pointwise).t())):
            weight = factor.get_parameter("weight")
            weight.copy_(values.reshape(weight.shape))
    return made


def separable_errors(model: nn.Module, graph: ModelGraph) -> dict[str, NDArray[np.float64]]:
    """Of each weight that can be replaced, by its name: the share of its sum of squares that the nearest separable weight lacks, ``[1]``, in [0, 1).

    Raises:
        DivergedError: a weight is not finite.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for site in graph.sites:
        if site.separable:
            layer: Any = model.get_submodule(site.module)
            total = float(layer.weight.detach().double().square().sum())
            kept = float(_first_singular(layer)[1].double().square().sum())
            found[site.name] = np.array([max(0.0, 1 - kept / total) if total else 0.0])
    return found


def _first_singular(layer: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Of each input channel's matrix: left vectors ``[inputs, outputs]``, values ``[inputs]`` and right vectors ``[inputs, places]``."""
    weight: Tensor = layer.weight.detach()
    if not torch.isfinite(weight).all():
        raise DivergedError("depthwise_separable: a weight is not finite")
    matrices = weight.flatten(2).transpose(0, 1)
    u, s, v = torch.linalg.svd(matrices if weight.dtype == torch.float64 else matrices.float(), full_matrices=False)
    return u[:, :, 0], s[:, 0], v[:, 0]
