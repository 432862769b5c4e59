"""Low-rank factorisation: a layer's weight becomes the product of two thinner ones, by truncated singular value decomposition [Denton2014]_.

Truncation keeps the best approximation of each rank in the Frobenius norm [Eckart1936]_; no data is read. The factors are balanced: each takes the roots of the
singular values.

.. [Denton2014] Denton et al., Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation, NeurIPS 2014.
.. [Eckart1936] Eckart and Young, The approximation of one matrix by another of lower rank, Psychometrika 1, 1936.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError, DivergedError
from compressors.graph.factors import Factorised, replace_layer, split, stores_inputs_first
from compressors.graph.model_graph import ModelGraph, Site
from compressors.graph.sharing import tie
from compressors.graph.surgery import note

__all__ = ["SINGULAR_VALUES", "LowRank", "factorise", "singular_values"]

SINGULAR_VALUES = "singular_values"
"""The score that ranks by energy are planned on."""

_Share = Annotated[float, pydantic.Field(gt=0, le=1)]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class LowRank(Compressor):
    """Factorise linear layers and convolutions of kernel 1; give ``rank`` or ``energy``. A layer that would not shrink stays whole.

    Attributes:
        rank: of each layer, as a fraction of its full rank, in (0, 1]; full is that of the layer as earlier steps have cut it.
        energy: the fraction of the sum of squared singular values of the uncompressed weight that the smallest sufficient rank keeps, in (0, 1].
        round_to: ranks become multiples of this, the next larger one.
    """

    name: ClassVar[str] = "low_rank"

    rank: _Share | None = None
    energy: _Share | None = None
    round_to: Annotated[int, pydantic.Field(ge=1)] = 1

    @pydantic.model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.rank is None) == (self.energy is None):
            raise ValueError("give either rank or energy")
        return self

    def criteria(self) -> tuple[str, ...]:
        """Singular values, where ranks follow from them."""
        return () if self.energy is None else (SINGULAR_VALUES,)

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:
        """Choose the ranks. See ``Compressor.plan``."""
        layers = self._layers(graph)
        if not layers:
            raise CompressionError("low_rank: the patterns leave no linear layer and no convolution of kernel 1 whose weight is its own")
        shapes = edit.shapes(graph)
        ranks = dict(edit.ranks)
        for site in layers:
            # Gone with its block, or factorised by an earlier step.
            if site.module in ranks or not site.elements.evaluate(shapes.widths)[0]:
                continue
            if site.name in edit.sparse:
                raise CompressionError(f"low_rank: {site.name} is sparse by an earlier sparsify, its factors would not be; accepted: low_rank before sparsify")
            rows, columns = (int(dim.evaluate(shapes.widths)[0]) for dim in graph.parameter_tensors[site.name].dims[:2])
            rank = self._rank(min(rows, columns), scores[SINGULAR_VALUES][site.name] if self.energy is not None else None)
            if rank * (rows + columns) < rows * columns:
                ranks[site.module] = rank
        for group in edit.shared:
            # One weight has one rank: the one that suffices for all of its uncompressed weights.
            ranks |= dict.fromkeys(found := [module for module in group if module in ranks], max((ranks[module] for module in found), default=0))
        return replace(edit, ranks=ranks)

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """A copy with two layers in place of each that was planned. See ``Compressor.apply``."""
        smaller = copy.deepcopy(model)
        factors: dict[str, int] = dict((getattr(smaller, "compareto_structure", None) or {}).get("factors", {}))
        before, planned = sum(p.numel() for p in smaller.parameters()), {name: rank for name, rank in edit.ranks.items() if name not in factors}
        for name, rank in planned.items():
            replace_layer(smaller, name, factorise(smaller.get_submodule(name), rank))
        note(smaller, context.graph, factors=factors | planned)
        tie(smaller, edit.shared)
        after = sum(p.numel() for p in smaller.parameters())
        context.log(f"low_rank: {len(planned)} of {len(self._layers(context.graph))} layers are factorised: {before:,} parameters before, {after:,} after")
        return smaller

    def _layers(self, graph: ModelGraph) -> list[Site]:
        return [site for i in graph.select_sites(self.include, self.exclude) if (site := graph.sites[i]).factorable]

    def _rank(self, full: int, values: NDArray[np.float64] | None) -> int:
        if values is None:
            wanted = int(np.floor(float(self.rank or 0) * full + 0.5))
        else:
            kept = np.cumsum(np.square(values))
            wanted = int(np.searchsorted(kept, float(self.energy or 0) * kept[-1] * (1 - 1e-12))) + 1
        return min(-(-max(wanted, 1) // self.round_to) * self.round_to, full)


def factorise(layer: nn.Module, rank: int) -> Factorised:
    """Two layers whose product is the best approximation of ``layer`` of this rank; at full rank it is equal but for rounding.

    Raises:
        DivergedError: its weight is not finite.
    """
    matrix = _matrix(layer)
    if not torch.isfinite(matrix).all():
        raise DivergedError("low_rank: a weight is not finite")
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    made = split(layer, rank)
    with torch.no_grad():
        for factor, values in ((made.first, root[:, None] * v[:rank]), (made.second, u[:, :rank] * root)):
            weight = factor.get_parameter("weight")
            weight.copy_(values.view_as(weight))
    return made


def singular_values(model: nn.Module, graph: ModelGraph) -> dict[str, NDArray[np.float64]]:
    """Of the weight of each layer that can be factorised, by the weight's name, ``[full rank]``, largest first.

    Raises:
        DivergedError: a weight is not finite.
    """
    found: dict[str, NDArray[np.float64]] = {}
    for name, layer in _factorable(model, graph):
        matrix = _matrix(layer)
        if not torch.isfinite(matrix).all():
            raise DivergedError(f"{name} is not finite")
        found[name] = torch.linalg.svdvals(matrix).cpu().double().numpy()
    return found


def _factorable(model: nn.Module, graph: ModelGraph) -> Iterator[tuple[str, nn.Module]]:
    yield from ((site.name, model.get_submodule(site.module)) for site in graph.sites if site.factorable)


def _matrix(layer: Any) -> Tensor:
    """``[outputs, inputs]`` in single precision at least."""
    weight: Tensor = layer.weight.detach().flatten(1)
    weight = weight.t() if stores_inputs_first(layer) else weight
    return weight if weight.dtype == torch.float64 else weight.float()
