"""Structured pruning: whole channels, feed-forward units and attention heads are removed, and the model becomes smaller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

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
from compressors.pruning.current import SPARSE_TRAINED, least_missed
from compressors.pruning.layers import explicit_ratios, layer_problems
from compressors.pruning.selection import Candidate, select_global, select_local, select_threshold

__all__ = ["DEFAULT_KINDS", "KINDS", "Prune"]

DEFAULT_KINDS = ("channels", "ffn", "heads", "kv_groups")
"""Kinds that one ratio or threshold for all is applied to."""

KINDS = (*DEFAULT_KINDS, "hidden", "blocks")
"""Kinds that a ratio or threshold can be given for; ``hidden``, the residual stream, and ``blocks``, the depth, are only cut where they are named."""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1


def _is_threshold(value: Any) -> bool:
    return _is_number(value) and 0 <= value < float("inf")


def _by_kind(what: str, accepted: str, valid: Callable[[Any], bool]) -> Callable[[Any], float | dict[str, float] | None]:
    """A validator of one number for all kinds, or one for each that is named."""

    def validate(value: Any) -> float | dict[str, float] | None:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            if not valid(value):
                raise ValueError(f"a {what} (or the {what} of each kind) must be {accepted}")
            return float(value)
        for kind, number in value.items():
            if kind not in KINDS:
                raise ValueError(f"unknown kind {kind!r}; accepted: {', '.join(KINDS)}{near_miss(str(kind), KINDS)}")
            if not valid(number):
                raise ValueError(f"the {what} of {kind} must be {accepted}, got {number!r}")
        if not value:
            raise ValueError(f"give at least one kind; accepted: {', '.join(KINDS)}")
        return {str(kind): float(number) for kind, number in value.items()}

    return validate


_SHARE = "a number in [0, 1)"


def _layers(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError("expected a mapping from patterns of layers to ratios")  # noqa: TRY004 - pydantic reports a ValueError
    for pattern, ratio in value.items():
        if not _is_share(ratio):
            raise ValueError(f"the ratio of {pattern!r} must be {_SHARE}, got {ratio!r}")
    return {str(pattern): float(ratio) for pattern, ratio in value.items()}


ByKind = float | dict[str, float] | None


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Prune(Compressor):
    """Remove the least important units; give ``ratio`` or ``threshold``, or only ``layers``.

    Attributes:
        criterion: how important a unit is: ``l1``, ``l2`` (magnitudes), ``bn_scale`` (scales of batch norms, ``l2`` where there are none), ``taylor``
            (first-order effect on the loss) and ``activation`` (weights times the size of their inputs), both from calibration data, or ``random``.
        ratio: the fraction of units to remove, for all kinds or by kind, in [0, 1).
        threshold: for all kinds or by kind: units go whose score is below this multiple of the mean score of their axis.
        layers: the ratio of the axes that a pattern matches, instead of ``ratio`` or ``threshold``; ``hidden`` and ``blocks`` axes by their name alone.
        scope: ``local`` cuts every axis by the ratio; ``global`` ranks the units of a kind over all axes, by multiples of the mean score of their axis.
            Thresholds and explicit ratios are local by nature.
        round_to: widths become multiples of this.
        min_units: units that every axis keeps, up to the next multiple of ``round_to``.
    """

    name: ClassVar[str] = "prune"

    ratio: Annotated[ByKind, pydantic.PlainValidator(_by_kind("ratio", _SHARE, _is_share))] = None
    threshold: Annotated[ByKind, pydantic.PlainValidator(_by_kind("threshold", "a number of at least 0", _is_threshold))] = None
    layers: Annotated[dict[str, float], pydantic.PlainValidator(_layers)] = pydantic.Field(default_factory=dict)
    criterion: Literal["l1", "l2", "bn_scale", "taylor", "activation", "random"] = "l2"
    scope: Literal["local", "global"] = "local"
    round_to: Annotated[int, pydantic.Field(ge=1)] = 1
    min_units: Annotated[int, pydantic.Field(ge=1)] = 1

    @pydantic.model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.ratio is not None and self.threshold is not None:
            raise ValueError("give either ratio or threshold")
        if self.ratio is None and self.threshold is None and not self.layers:
            raise ValueError("give ratio or threshold, or the ratios of layers")
        return self

    def criteria(self) -> tuple[str, ...]:
        """The one score that planning needs."""
        return (self.criterion,)

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """See ``Compressor.problems``."""
        yield from Compressor.problems(self, graph)
        yield from (("layers", message) for message in layer_problems(graph, self.layers))

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:
        """Choose the units that stay. See ``Compressor.plan``."""
        explicit = explicit_ratios(graph, self.layers)
        selected = {graph.axes[i].name: graph.axes[i] for i in graph.select_axes(self.include, self.exclude)}
        present = {
            name: Candidate(np.asarray(scores[self.criterion][name]), np.asarray(edit.kept.get(name, np.arange(axis.size)))) for name, axis in selected.items()
        }
        kept: dict[str, NDArray[np.int64]] = {}
        for kind, amount in self._amounts(graph).items():
            candidates = {name: present[name] for name, axis in selected.items() if axis.kind == kind and name not in explicit}
            if candidates and amount > 0:
                select = select_threshold if self.threshold is not None else select_global if self.scope == "global" else select_local
                kept |= select(candidates, amount, self.round_to, self.min_units)
        for name, ratio in explicit.items():
            if name in selected and ratio > 0:
                kept |= select_local({name: present[name]}, ratio, self.round_to, self.min_units)
        return edit.cut({name: units for name, units in kept.items() if name in edit.kept or len(units) < selected[name].size})

    def _amounts(self, graph: ModelGraph) -> dict[str, float]:
        """The ratio or threshold of each kind that this step cuts.

        Raises:
            CompressionError: the model has no prunable axis of a kind that is named, or none at all.
        """
        amount = self.ratio if self.threshold is None else self.threshold
        if amount is None:
            return {}
        present = [kind for kind in KINDS if any(axis.kind == kind for axis in graph.prunable)]
        has = f"the model has {', '.join(present) or 'no prunable axis'}"
        if isinstance(amount, Mapping):
            for kind in amount:
                if kind not in present:
                    raise CompressionError(f"{self.name}: no prunable axis of kind {kind!r}; {has}")
            return dict(amount)
        chosen = [kind for kind in DEFAULT_KINDS if kind in present]
        if not chosen:
            raise CompressionError(f"{self.name}: nothing of {', '.join(DEFAULT_KINDS)} can be pruned; {has}")
        return dict.fromkeys(chosen, amount)

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """Slice the live module, then check that it has the planned size and still runs. See ``Compressor.apply``.

        After ``sparse_train`` the widths are those that were planned, and the units those that are now the least important.
        """
        structure: Mapping[str, Any] = getattr(model, "compareto_structure", None) or {}
        if structure.get(SPARSE_TRAINED):
            edit = edit.cut(least_missed(model, edit, self.criterion, context))
        return self.cut(model, edit, context)

    def cut(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """Without the units that ``edit`` leaves out."""
        smaller = cut(model, context.graph, edit.kept)
        planned = int(context.graph.count_parameters(edit.shapes(context.graph))[0])
        found = sum(parameter.numel() for parameter in smaller.parameters())
        if found != planned:
            raise CompressionError(f"{self.name}: the pruned model has {found} parameters, {planned} were planned")
        device = next((p.device for p in smaller.parameters()), torch.device("cpu"))
        modes = [(module, module.training) for module in smaller.modules()]
        smaller.eval()
        try:
            with torch.no_grad():
                smaller(**{name: value.to(device) for name, value in context.example_inputs.items()})
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise CompressionError(f"{self.name}: the model's code cannot follow the cut: {error}") from error
        for module, training in modes:
            module.training = training
        return smaller
