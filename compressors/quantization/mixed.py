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
from compressors.quantization.sensitivity import BITS, SensitivityTable
from compressors.targets import target_named

__all__ = ["Mixed", "alternatives", "mixed_bits"]

Integers = NDArray[np.int64]

_WHOLE = 8
"""Bits whose bytes are known without the format: one for each weight, and scales."""

# Looking for entry points reads the metadata of every installed package, and runtimes have no state.
_target = cache(target_named)


class Mixed(pydantic.BaseModel):
    """What the weights may have together; give one of the two.

    Attributes:
        budget_bits: mean width of the integers as the format stores them, up to 8; scales and zero points, which come on top and are the same for all
            widths, do not count.
        budget_bytes: of the whole model as the format stores it, as in ``size_bytes``.
        choices: widths that a weight may have; those that the format stores in the container of a wider one are left out.
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
    if not sites:
        raise CompressionError("quantize: mixed: every weight has bits of its own by overrides; accepted: overrides that leave some to assign")
    target = _target(table.target)
    decisions = _decisions(graph, edit, sites)
    widths = np.array(sorted({*mixed.choices, _WHOLE}))
    shapes = edit.shapes(graph)
    elements = np.array([int(site.elements.evaluate(shapes.widths)[0]) for site in graph.sites])
    columns = [BITS.index(bits) if bits in mixed.choices else None for bits in widths]
    losses = np.array([_losses(graph, table, [i for i in together if elements[i]], columns) for together in decisions])
    stored = target.stored_bytes(graph, alternatives(graph, edit, decisions, widths)).astype(np.float64)
    costs = stored[1:].reshape(losses.shape) - stored[0]
    losses[_pointless(losses, costs)] = np.nan
    if not (there := np.isfinite(losses)).any(1).all():
        name = graph.sites[decisions[int(there.any(1).argmin())][0]].name
        has = " or ".join(str(bits) for bits, loss in zip(BITS, table.losses[name], strict=True) if np.isfinite(loss))
        accepted = f"choices with {has}" if has else "another target"
        raise CompressionError(f"quantize: mixed: {target.name} stores {name} in no {' or '.join(map(str, mixed.choices))} bits; accepted: {accepted}")
    least = float(np.where(there, costs, np.inf).min(1).sum())
    if mixed.budget_bytes is not None:
        # What else is stored, and the sites in their fewest bits, is part of every sum.
        budget, said, possible = mixed.budget_bytes - stored[0], f"budget_bytes {mixed.budget_bytes:,.10g}", stored[0] + least
    else:
        assert mixed.budget_bits is not None, "one budget is given"
        own = np.array([graph.sites[i].folded or graph.sites[i].own.evaluate(shapes.widths)[0] for together in decisions for i in together])
        many = float((own * elements[np.concatenate(decisions)]).sum())
        # Integers of 8 bits are stored as such by every format.
        whole = many - float(costs[:, -1].sum())
        budget, said = mixed.budget_bits / 8 * many - whole, f"budget_bits {mixed.budget_bits:.10g}"
        possible = 8 * (whole + least) / max(many, 1.0)
    if least > budget:
        names = ", ".join(str(bits) for bits, any_ in zip(widths, there.any(0), strict=True) if any_)
        raise CompressionError(f"quantize: mixed.{said} is too small; accepted: at least {possible:,.10g} ({target.name} stores {names} bits)")
    found = edit.weight_bits.copy()
    for together, choice in zip(decisions, assign(losses, costs, budget), strict=True):
        found[list(together)] = widths[choice]
    return found


def alternatives(graph: ModelGraph, edit: GraphEdit, decisions: Sequence[Sequence[int]], choices: Sequence[int] | Integers) -> Shapes:
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


def _losses(graph: ModelGraph, table: SensitivityTable, there: Sequence[int], columns: Sequence[int | None]) -> list[float]:
    """Of sites together, in some columns of the table; what is not there loses nothing."""
    rows = [table.losses[graph.sites[i].name] for i in there]
    return [np.nan if column is None else float(sum(row[column] for row in rows)) for column in columns]


def _pointless(losses: NDArray[np.float64], costs: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which choices cost no less than a wider one: they are stored in a wider container. Both ``[decisions, widths]``, widths ascending."""
    wider = np.full_like(costs, np.inf)
    wider[:, :-1] = np.minimum.accumulate(np.where(np.isfinite(losses), costs, np.inf)[:, :0:-1], axis=1)[:, ::-1]
    return costs >= wider
