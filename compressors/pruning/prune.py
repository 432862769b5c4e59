"""Structured pruning: whole channels, feed-forward units and attention heads are removed, and the model becomes smaller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError, near_miss
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import cut
from compressors.pruning.selection import Candidate, select_global, select_local

__all__ = ["DEFAULT_KINDS", "KINDS", "Prune"]

DEFAULT_KINDS = ("channels", "ffn", "heads", "kv_groups")
"""Kinds that one ratio for all is applied to."""

KINDS = (*DEFAULT_KINDS, "hidden", "blocks")
"""Kinds that a ratio can be given for; ``hidden``, the residual stream, and ``blocks``, the depth, are only cut where they are named."""


def _is_share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1


def _ratio(value: Any) -> float | dict[str, float]:
    if not isinstance(value, Mapping):
        if not _is_share(value):
            raise ValueError("a ratio (or the ratio of each kind) must be a number in [0, 1)")
        return float(value)
    for kind, share in value.items():
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}; accepted: {', '.join(KINDS)}{near_miss(str(kind), KINDS)}")
        if not _is_share(share):
            raise ValueError(f"the ratio of {kind} must be a number in [0, 1), got {share!r}")
    if not value:
        raise ValueError(f"give at least one kind; accepted: {', '.join(KINDS)}")
    return {str(kind): float(share) for kind, share in value.items()}


Ratio = Annotated[float | dict[str, float], pydantic.PlainValidator(_ratio)]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Prune(Compressor):
    """Remove the least important units.

    Attributes:
        criterion: ``l1``, ``l2`` (magnitudes) or ``taylor`` (first-order effect on the loss, from calibration data).
        ratio: the fraction of units to remove, for all kinds or by kind, in [0, 1).
        scope: ``local`` cuts every axis by the ratio; ``global`` ranks the units of a kind over all axes.
        round_to: widths become multiples of this.
        min_units: units that every axis keeps.
    """

    name: ClassVar[str] = "prune"

    ratio: Ratio
    criterion: Literal["l1", "l2", "taylor"] = "l2"
    scope: Literal["local", "global"] = "local"
    round_to: Annotated[int, pydantic.Field(ge=1)] = 1
    min_units: Annotated[int, pydantic.Field(ge=1)] = 1

    def criteria(self) -> tuple[str, ...]:
        """The one score that planning needs."""
        return (self.criterion,)

    def ratios(self, graph: ModelGraph) -> dict[str, float]:
        """The ratio of each kind that this step cuts.

        Raises:
            CompressionError: the model has no prunable axis of a kind that is named, or none at all.
        """
        present = [kind for kind in KINDS if any(axis.kind == kind for axis in graph.prunable)]
        has = f"the model has {', '.join(present) or 'no prunable axis'}"
        if isinstance(self.ratio, Mapping):
            for kind in self.ratio:
                if kind not in present:
                    raise CompressionError(f"prune: no prunable axis of kind {kind!r}; {has}")
            return dict(self.ratio)
        chosen = [kind for kind in DEFAULT_KINDS if kind in present]
        if not chosen:
            raise CompressionError(f"prune: nothing of {', '.join(DEFAULT_KINDS)} can be pruned; {has}")
        return dict.fromkeys(chosen, self.ratio)

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:
        """Choose the units that stay. See ``Compressor.plan``."""
        selected = [graph.axes[i] for i in graph.select_axes(self.include, self.exclude)]
        kept: dict[str, NDArray[np.int64]] = {}
        for kind, ratio in self.ratios(graph).items():
            candidates = {
                axis.name: Candidate(np.asarray(scores[self.criterion][axis.name]), np.asarray(edit.kept.get(axis.name, np.arange(axis.size))))
                for axis in selected
                if axis.kind == kind
            }
            if candidates and ratio > 0:
                select = select_global if self.scope == "global" else select_local
                kept |= select(candidates, ratio, self.round_to, self.min_units)
        sizes = {axis.name: axis.size for axis in selected}
        return edit.cut({name: units for name, units in kept.items() if name in edit.kept or len(units) < sizes[name]})

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """Slice the live module, then check that it has the planned size and still runs. See ``Compressor.apply``."""
        smaller = cut(model, context.graph, edit.kept)
        planned = int(context.graph.count_parameters(edit.shapes(context.graph))[0])
        found = sum(parameter.numel() for parameter in smaller.parameters())
        if found != planned:
            raise CompressionError(f"prune: the pruned model has {found} parameters, {planned} were planned")
        device = next((p.device for p in smaller.parameters()), torch.device("cpu"))
        modes = [(module, module.training) for module in smaller.modules()]
        smaller.eval()
        try:
            with torch.no_grad():
                smaller(**{name: value.to(device) for name, value in context.example_inputs.items()})
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise CompressionError(f"prune: the model's code cannot follow the cut: {error}") from error
        for module, training in modes:
            module.training = training
        return smaller
