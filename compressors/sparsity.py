"""Unstructured and N:M sparsity: the smallest weights become zeros, and stay zeros through whatever follows.

Magnitude as the measure is that of [Han2015]_, N:M groups along a layer's inputs are those of [Mishra2021]_. The model keeps its shapes: its parameters, MACs
and stored bytes are the dense model's, since no runtime here stores sparse weights in less or multiplies by them faster.

.. [Han2015] Han et al., Learning both Weights and Connections for Efficient Neural Networks, NeurIPS 2015.
.. [Mishra2021] Mishra et al., Accelerating Sparse Deep Neural Networks, arXiv:2104.08378.
"""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph, Site
from compressors.graph.surgery import note, weight_names
from compressors.sizing import in_scorer

__all__ = ["Sparsify", "zeros_held"]


def _pattern(value: Any) -> Any:
    parts = re.fullmatch(r"(\d+):(\d+)", value) if isinstance(value, str) else None
    if value is not None and (parts is None or not 0 < int(parts[1]) < int(parts[2])):
        raise ValueError("a pattern is 'N:M' with 0 < N < M, such as '2:4' in quotes: YAML reads a bare 2:4 as the number 124")
    return value


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Sparsify(Compressor):
    """Set the smallest weights of linear layers and convolutions to zero; give ``ratio`` or ``pattern``.

    Attributes:
        ratio: the fraction of weights that become zero, in [0, 1).
        scope: ``global`` ranks the weights of all layers together; ``local`` takes the same ratio of every layer.
        pattern: ``N:M``: of every M weights in a row along a layer's inputs the N largest stay. Layers whose inputs are no multiple of M stay dense.
    """

    name: ClassVar[str] = "sparsify"

    ratio: Annotated[float, pydantic.Field(ge=0, lt=1)] | None = None
    scope: Literal["global", "local"] = "global"
    pattern: Annotated[str | None, pydantic.BeforeValidator(_pattern)] = None

    @pydantic.model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.ratio is None) == (self.pattern is None):
            raise ValueError("give either ratio or pattern")
        return self

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - weights are ranked when the step is applied
        """Note which sites hold zeros; no shape changes. See ``Compressor.plan``."""
        sites = self._sites(graph)
        if not sites:
            raise CompressionError("sparsify: the patterns leave no linear layer and no convolution")
        return replace(edit, sparse={**edit.sparse, **{site.name: self.pattern or "unstructured" for site in sites}})

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:  # noqa: ARG002 - the model is already cut
        """A copy with zeros; how many there are is logged and noted in the model's structure. See ``Compressor.apply``.

        Raises:
            CompressionError: a layer would hold nothing but zeros, or its inputs fit the pattern nowhere.
        """
        sparse = copy.deepcopy(model)
        parameters = dict(sparse.named_parameters(remove_duplicate=False))
        weights = {name: parameters[name] for site in self._sites(context.graph) for name in weight_names(sparse, site.name)}
        masks = self._masks(sparse, weights)
        if not masks:
            raise CompressionError(f"sparsify: no layer has inputs in a multiple of {str(self.pattern).partition(':')[2]}, as the pattern {self.pattern} needs")
        noted = dict((getattr(sparse, "compareto_structure", None) or {}).get("sparse", {}))
        with torch.no_grad():
            for name, weight in weights.items():
                if id(weight) not in masks:
                    continue
                weight.mul_(masks[id(weight)])
                if not weight.any():
                    raise CompressionError(f"sparsify: {name} would hold nothing but zeros; accepted: a lower ratio, scope: local, or {name!r} excluded")
                noted[name] = {"pattern": self.pattern or "unstructured", "zeros": int((weight == 0).sum())}
        distinct = {id(weight): weight for weight in weights.values()}
        zeros, total = sum(int((w == 0).sum()) for w in distinct.values()), sum(w.numel() for w in distinct.values())
        dense = [name for name, weight in weights.items() if id(weight) not in masks]
        left = f"; {len(dense)} layers stay dense, such as {dense[0]}: their inputs are no multiple of the pattern" if dense else ""
        context.log(f"sparsify: {zeros / total:.2%} of {total:,} weights in {len(distinct)} layers are zero{left}")
        note(sparse, context.graph, sparse=noted)
        return sparse

    def _sites(self, graph: ModelGraph) -> list[Site]:
        found = [graph.sites[i] for i in graph.select_sites(self.include, self.exclude)]
        # A scorer of crops is too small for zeros to be worth anything, and nothing trains it once it is made.
        return [site for site in found if site.operator in ("linear", "conv") and not in_scorer(site.module)]

    def _masks(self, model: nn.Module, weights: dict[str, nn.Parameter]) -> dict[int, Tensor]:
        """Which weights stay, by the identity of their tensor; a shared one is ranked once."""
        names = {id(weight): name for name, weight in weights.items()}
        magnitudes = {id(weight): weight.detach().abs().float() for weight in weights.values()}
        if self.pattern is not None:
            kept, group = map(int, self.pattern.split(":"))
            dims = {key: _input_dim(model.get_submodule(names[key].rpartition(".")[0])) for key in magnitudes}
            return {key: _largest_of_each(m, dims[key], kept, group) for key, m in magnitudes.items() if m.shape[dims[key]] % group == 0}
        pools = [list(magnitudes)] if self.scope == "global" else [[key] for key in magnitudes]
        return {key: mask for pool in pools for key, mask in zip(pool, _largest([magnitudes[key] for key in pool], float(self.ratio or 0)), strict=True)}


def _input_dim(module: nn.Module) -> int:
    """The dimension of a layer's weight that its inputs are multiplied along."""
    return 0 if getattr(module, "transposed", False) or hasattr(module, "nf") else 1


def _largest(magnitudes: Sequence[Tensor], ratio: float) -> list[Tensor]:
    """Masks of all but the smallest ``ratio`` of all values together; of equal ones the first go."""
    pooled = torch.cat([m.flatten() for m in magnitudes])
    removed = int(ratio * len(pooled) + 0.5)
    if not removed:
        return [torch.ones_like(m, dtype=torch.bool) for m in magnitudes]
    threshold = pooled.kthvalue(removed).values
    spare = removed - int((pooled < threshold).sum())
    masks = []
    for m in magnitudes:
        ties = (m == threshold).flatten()
        gone = ties & (ties.cumsum(0) <= spare)
        spare -= int(gone.sum())
        masks.append((m >= threshold) & ~gone.view_as(m))
    return masks


def _largest_of_each(magnitudes: Tensor, dim: int, kept: int, group: int) -> Tensor:
    """Mask of the ``kept`` largest of every ``group`` values in a row along ``dim``; of equal ones the first stay."""
    rows = magnitudes.movedim(dim, -1)
    ranks = rows.reshape(-1, group).argsort(dim=1, descending=True, stable=True)
    mask = torch.zeros_like(ranks, dtype=torch.bool).scatter_(1, ranks[:, :kept], True)
    return mask.view(rows.shape).movedim(-1, dim)


@contextlib.contextmanager
def zeros_held(model: nn.Module) -> Iterator[None]:
    """While open, zeros of the weights that a ``sparsify`` step has made sparse get no gradient, so that no optimizer moves them."""
    noted = (getattr(model, "compareto_structure", None) or {}).get("sparse", {})
    parameters = dict(model.named_parameters(remove_duplicate=False))
    sparse = {id(weight): weight for name in noted if (weight := parameters.get(name)) is not None and weight.requires_grad}
    hooks = [weight.register_hook(_masked(weight.detach() != 0)) for weight in sparse.values()]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _masked(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * mask
