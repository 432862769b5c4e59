"""Mixed precision: each weight gets the bits that its sensitivity and the budget allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Annotated, Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray

from compressors.compressor import GraphEdit
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.shapes import Shapes
from compressors.quantization.assignment import assign
from compressors.quantization.sensitivity import BITS, SensitivityTable, is_stored
from compressors.targets import target_named
from compressors.targets.storage import effective_granularity

__all__ = ["Mixed", "alternatives", "mixed_bits"]

Integers = NDArray[np.int64]

# Looking for entry points reads the metadata of every installed package, and runtimes have no state.
_target = cache(target_named)


class Mixed(pydantic.BaseModel):
    """What the weights may have together; give one of the two.

    Attributes:
        budget_bits: mean width of the integers, each as the format stores it; scales and zero points, which come on top, do not depend on it. What every
            weight in 8 bits needs is 8.
        budget_bytes: of the whole model as the format stores it, as in ``size_bytes``.
        choices: widths that a weight may have; those that the format stores in a wider container are left out.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    budget_bits: Annotated[float, pydantic.Field(gt=0)] | None = None
    budget_bytes: Annotated[float, pydantic.Field(gt=0)] | None = None
    choices: Annotated[tuple[Literal[2, 3, 4, 8], ...], pydantic.Field(min_length=1)] = BITS

    @pydantic.model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.budget_bits is None) == (self.budget_bytes is None):
            raise ValueError("give either budget_bits or budget_bytes")
        return self


def mixed_bits(mixed: Mixed, graph: ModelGraph, table: SensitivityTable, edit: GraphEdit, sites: Sequence[int]) -> Integers:
    """The weight bits of ``edit``, ``[sites of the graph]``, with those of some sites assigned by sensitivity.

    Losses are those of the uncompressed model, costs those of the widths that ``edit`` has left. Layers that share a weight are assigned together.

    Args:
        mixed: the budget.
        graph: of the uncompressed model.
        table: its sensitivities, for the granularity that the sites have.
        edit: everything else that is decided, what these sites have beside their bits too.
        sites: that are assigned.

    Raises:
        CompressionError: the budget is too small, or the format stores none of the choices.
    """
    target = _target(table.target)
    choices = sorted(set(mixed.choices))
    decisions = _decisions(graph, edit, sites)
    shapes = edit.shapes(graph)
    granularity = effective_granularity(graph, shapes)[0]
    elements = np.array([_elements(graph, shapes, site) for site in range(len(graph.sites))])
    losses = np.full((len(decisions), len(choices)), np.nan)
    for d, together in enumerate(decisions):
        there = [i for i in together if graph.sites[i].elements.evaluate(shapes.widths)[0]]
        for c, bits in enumerate(choices):
            if all(is_stored(target, bits, operator=graph.sites[i].operator, granularity=int(granularity[i])) for i in there):
                losses[d, c] = sum(table.losses[graph.sites[i].name][BITS.index(bits)] for i in there)
    stored = np.isfinite(losses)
    for together in (decisions[d] for d in np.flatnonzero(~stored.any(1))):
        said = " or ".join(map(str, choices))
        raise CompressionError(f"quantize: mixed: {target.name} stores {graph.sites[together[0]].name} in no {said} bits as such; accepted: choices with 8")
    many = np.array([sum(elements[i] for i in together) for together in decisions])
    if mixed.budget_bits is not None:
        costs, budget, unit = many[:, None] * np.array(choices, dtype=np.float64), mixed.budget_bits * many.sum(), max(float(many.sum()), 1.0)
    else:
        assert mixed.budget_bytes is not None, "one budget is given"
        bytes_ = target.stored_bytes(graph, alternatives(graph, edit, decisions, choices)).astype(np.float64)
        # What else is stored, and the sites at their first choice, is part of every sum.
        costs, budget, unit = bytes_[1:].reshape(losses.shape) - bytes_[0], mixed.budget_bytes - bytes_[0], 1.0
    least = np.where(stored, costs, np.inf).min(1).sum()
    if least > budget:
        name, given = ("budget_bits", mixed.budget_bits) if mixed.budget_bits is not None else ("budget_bytes", mixed.budget_bytes)
        least = least / unit if mixed.budget_bits is not None else least + bytes_[0]
        widths = ", ".join(str(b) for b, there in zip(choices, stored.any(0), strict=True) if there)
        raise CompressionError(f"quantize: mixed.{name} {given:,.10g} is too small; accepted: at least {least:,.10g} ({target.name} stores {widths} bits)")
    found = edit.weight_bits.copy()
    for together, choice in zip(decisions, assign(losses, costs, budget), strict=True):
        found[list(together)] = choices[choice]
    return found


def alternatives(graph: ModelGraph, edit: GraphEdit, decisions: Sequence[Sequence[int]], choices: Sequence[int]) -> Shapes:
    """What any cost of ``assign`` can be priced on: all decisions at their first choice, then for each decision each choice, with all others at the first.

    Args:
        graph: of the uncompressed model.
        edit: everything else that is decided.
        decisions: indices of sites that have the same bits.
        choices: bits.

    Returns:
        ``[1 + decisions * choices]`` rows.
    """
    one = edit.shapes(graph)
    first = one.weight_bits[0].copy()
    for together in decisions:
        first[list(together)] = choices[0]
    bits = np.repeat(first[None], 1 + len(decisions) * len(choices), axis=0)
    for d, together in enumerate(decisions):
        for c, choice in enumerate(choices):
            bits[1 + d * len(choices) + c, list(together)] = choice
    return replace(Shapes.concatenate([one] * len(bits)), weight_bits=bits)


def _decisions(graph: ModelGraph, edit: GraphEdit, sites: Sequence[int]) -> list[tuple[int, ...]]:
    """Sites that have the same bits: one alone, or those whose layers share a weight."""
    leader = {module: group[0] for group in edit.shared for module in group}
    together: dict[str, list[int]] = {}
    for site in sites:
        module = graph.sites[site].module
        together.setdefault(leader.get(module, graph.sites[site].name), []).append(site)
    return [tuple(group) for group in together.values()]


def _elements(graph: ModelGraph, shapes: Shapes, site: int) -> int:
    found = graph.sites[site]
    own = 1 if found.folded else int(found.own.evaluate(shapes.widths)[0])
    return own * int(found.elements.evaluate(shapes.widths)[0])
