"""The ``quantize`` step: bit-widths of weights and activations, by site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pydantic
import torch
from torch import Tensor, nn

from compressors.architecture import architecture_of
from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context
from compressors.errors import CompressionError, UserError
from compressors.graph.model_graph import ModelGraph
from compressors.targets.target import Target

__all__ = ["Quantize", "prepared_state", "restore"]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Quantize(Compressor):
    """Store weights in fewer bits, and run integer arithmetic where activations have 8.

    Attributes:
        weight_bits: 4, 8 (integers, one scale an output channel) or 16 (float16).
        activation_bits: 8 (integers) or 16 (float: only weights are quantized).
        mode: ``static`` takes the ranges of integer activations from calibration data; ``dynamic`` from each input at run time, for linear layers only.
    """

    name: ClassVar[str] = "quantize"

    weight_bits: Literal[4, 8, 16] = 8
    activation_bits: Literal[8, 16] = 8
    mode: Literal["static", "dynamic"] = "static"

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - needs no scores
        """Set the bits of the sites that the patterns leave; weights in 16 bits keep float activations."""
        sites = graph.select_sites(self.include, self.exclude)
        if not sites:
            raise CompressionError("quantize: the patterns leave no weight to quantize")
        weights, activations = edit.weight_bits.copy(), edit.activation_bits.copy()
        integer = self.activation_bits == 8 and self.weight_bits <= 8
        dynamic = integer and self.mode == "dynamic"
        operators = ("linear",) if dynamic else ("linear", "conv")
        for site in sites:
            weights[site] = self.weight_bits
            activations[site] = 8 if integer and graph.sites[site].operator in operators else 32
        others = np.delete(activations, sites) <= 8
        if integer and others.any() and dynamic != edit.dynamic:
            raise CompressionError("quantize: one recipe takes the ranges of its activations either from calibration data or at run time; accepted: one mode")
        return replace(edit, weight_bits=weights, activation_bits=activations, dynamic=dynamic or (edit.dynamic and bool(others.any())))

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """The quantized model: an exported graph from here on, unless every weight has 16 bits."""
        self._log_unsupported(edit, context)
        _check_sizes(context)
        # An exported graph cannot be annotated twice: a second step starts from the live model again, and the edit holds what both decided.
        live = getattr(model, "compareto_live", model)
        quantized = context.target.quantize(live, context.graph, edit, context.example_inputs, _calibration(context, edit))
        if quantized is not live:
            # Not as a submodule: its weights are not those of the quantized model.
            object.__setattr__(quantized, "compareto_live", live)
        return _with_structure(quantized, live, context.graph, edit, context.target, context.example_inputs)

    def _log_unsupported(self, edit: GraphEdit, context: Context) -> None:
        grouped: dict[str, list[str]] = {}
        own = {context.graph.sites[i].name for i in context.graph.select_sites(self.include, self.exclude)}
        for name, reason in context.target.supported(context.graph, edit).items():
            if name in own and self.mode == "dynamic":
                grouped.setdefault(reason, []).append(name)
        for reason, names in grouped.items():
            context.log(f"quantize: {', '.join(names)}: {reason}")


def _check_sizes(context: Context) -> None:
    """An exported graph takes any batch but one size of example: that of the workload."""
    batch = None if context.data is None else next(iter(context.data.batches("calibration")), None)
    for name, value in () if batch is None else batch.inputs.items():
        asked = context.example_inputs[name].shape[1:]
        if value.shape[1:] != asked:
            raise UserError(
                f"quantize: an example's {name!r} is {list(value.shape[1:])} in the data but {list(asked)} in the workload; "
                "accepted: the same size, since a quantized model takes only one (workload.sequence: that of data.preprocessing)"
            )


def _calibration(context: Context, edit: GraphEdit) -> Iterator[dict[str, Tensor]]:
    static = bool((edit.activation_bits <= 8).any()) and not edit.dynamic
    if context.data is None or not static:
        # One pass for the observers of weights; without data, static ranges of activations come from the example inputs.
        yield {k: v.clone() for k, v in context.example_inputs.items()}
        return
    for batch in context.data.batches("calibration"):
        yield batch.inputs


def _with_structure(
    quantized: nn.Module, model: nn.Module, graph: ModelGraph, edit: GraphEdit, target: Target, example_inputs: Mapping[str, Tensor]
) -> nn.Module:
    structure: dict[str, Any] = dict(getattr(model, "compareto_structure", None) or {})
    structure["quantize"] = {
        "target": target.name,
        "dynamic": bool(edit.dynamic),
        "inputs": {name: [str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in example_inputs.items()},
        "weight_bits": {site.name: int(edit.weight_bits[i]) for i, site in enumerate(graph.sites) if edit.weight_bits[i] < 32},
        "activation_bits": {site.name: int(edit.activation_bits[i]) for i, site in enumerate(graph.sites) if edit.activation_bits[i] < 32},
    }
    quantized.compareto_structure = structure  # type: ignore[assignment]
    # An exported graph no longer knows its class and configuration, which a checkpoint names.
    quantized.compareto_architecture = architecture_of(model)  # type: ignore[assignment]
    return quantized


def prepared_state(model: nn.Module) -> dict[str, Tensor]:
    """Weights and observed ranges from which ``restore`` converts the same model again."""
    state = getattr(model, "prepared_state", None)
    return dict(state) if state is not None else dict(model.state_dict())


def restore(
    model: nn.Module, graph: ModelGraph, edit: GraphEdit, target: Target, example_inputs: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> nn.Module:
    """The quantized model whose ``prepared_state`` was ``state``, bit for bit.

    Args:
        model: a live module of the same structure; its weights do not matter.
        graph: as it was when it was quantized; so are the next three.
        edit: its bits.
        target: the runtime.
        example_inputs: of one forward pass.
        state: from ``prepared_state``.
    """

    def load(prepared: nn.Module) -> None:
        # Observers size their buffers when they first see data: one pass gives every buffer its shape.
        with torch.no_grad():
            prepared(*example_inputs.values())
        # Without the versions that a state dict carries beside its tensors, observers read it as an old one and reset their epsilon.
        versioned = prepared.state_dict()
        versioned.update(state)
        prepared.load_state_dict(versioned, strict=False)

    return _with_structure(target.quantize(model, graph, edit, example_inputs, None, restore=load), model, graph, edit, target, example_inputs)
