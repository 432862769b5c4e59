"""The one way from a live model to a quantized one, whatever the target: export, annotate, calibrate, freeze, round, convert, lower."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

from compressors.architecture import architecture_of
from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.errors import DivergedError, UserError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import weight_names
from compressors.quantization.layerwise import FEWEST_EXAMPLES, refine
from compressors.quantization.quantizer import SiteQuantizer, WeightQuantizer
from compressors.targets.exported import PREFIX, ExportedModel, capture, run_captured
from compressors.targets.site_spec import SiteMethod, SiteSpec
from compressors.targets.target import Target

__all__ = ["Prepared", "edit_of", "finished", "prepare", "quantize", "restore", "silent"]


@dataclass(frozen=True)
class Prepared:
    """A captured model with a quantizer at every place where the target wants one.

    Attributes:
        module: the graph; takes its inputs by position.
        inputs: their names.
        quantizers: by key; weights before activations that bear the same.
        sites: of the weights, by key.
    """

    module: fx.GraphModule
    inputs: tuple[str, ...]
    quantizers: Mapping[str, SiteQuantizer]
    sites: Mapping[str, SiteSpec]

    def __call__(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The logits."""
        return run_captured(self.module, self.inputs, inputs)

    @property
    def weights(self) -> dict[str, WeightQuantizer]:
        """Quantizers of weights."""
        return {key: quantizer for key, quantizer in self.quantizers.items() if isinstance(quantizer, WeightQuantizer)}

    def state(self) -> dict[str, Tensor]:
        """Weights under their names, scales and zero points under their keys."""
        own = {id(tensor) for quantizer in self.quantizers.values() for tensor in quantizer.buffers()}
        state = {name: value for name, value in self.module.state_dict(keep_vars=True).items() if value is not None and id(value) not in own}
        for key, quantizer in self.quantizers.items():
            state |= {f"{key}:scale": quantizer.scale, f"{key}:zero_point": quantizer.zero_point}
        return {name: value.detach().clone() for name, value in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set what ``state`` returned."""
        for key, quantizer in self.quantizers.items():
            quantizer.set_parameters(state[f"{key}:scale"], state[f"{key}:zero_point"])
        self.module.load_state_dict({name: value for name, value in state.items() if ":" not in name}, strict=False)


def prepare(
    model: nn.Module,
    graph: ModelGraph,
    edit: GraphEdit,
    target: Target,
    example_inputs: Mapping[str, Tensor],
    program: Callable[[nn.Module, Mapping[str, Tensor]], fx.GraphModule] = capture,
) -> Prepared | None:
    """Capture a live model and place quantizers; None where ``edit`` leaves every weight in floats.

    Args:
        model: weights that are to have 16 bits are rounded to them in place.
        graph: of the uncompressed model.
        edit: bits of its sites.
        target: whose annotator places the quantizers.
        example_inputs: of one forward pass.
        program: captures the model.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    sites: dict[str, SiteSpec] = {}
    for i, site in enumerate(graph.sites):
        for name in weight_names(model, site.name):
            if edit.weight_bits[i] == 16:
                parameters[name].data = parameters[name].data.half().float()
            elif edit.weight_bits[i] <= 8:
                method = edit.methods.get(site.name, SiteMethod())
                spec = SiteSpec(name, int(edit.weight_bits[i]), int(edit.activation_bits[i]), int(edit.granularity[i]), bool(edit.symmetric[i]), method)
                # A tied weight has several names, and the exported graph keeps any of them.
                sites |= {PREFIX + other: spec for other, parameter in parameters.items() if parameter is parameters[name]}
    if not sites:
        return None
    with silent():
        module = prepare_pt2e(program(model, example_inputs), target.annotator(sites, dynamic=edit.dynamic))
    quantizers: dict[str, SiteQuantizer] = {}
    for _, found in sorted(((n, m) for n, m in module.named_modules() if isinstance(m, SiteQuantizer)), key=lambda pair: _number(pair[0])):
        key, n = found.key, 1
        while key in quantizers:
            n += 1
            key = f"{found.key}#{n}"
        quantizers[key] = found
    return Prepared(module, tuple(example_inputs), quantizers, {spec.name: spec for spec in sites.values()})


def quantize(model: nn.Module, edit: GraphEdit, context: Context, batches: Callable[[], Iterable[Mapping[str, Tensor]]]) -> nn.Module:
    """The quantized copy of a live model, as an exported graph; a live model where no weight becomes an integer.

    Args:
        model: is left as it is.
        edit: bits of the sites of ``context.graph``.
        context: target, example inputs and seed.
        batches: each call gives one pass over the calibration data.

    Raises:
        UserError: too few calibration examples, or all of them are equal.
        DivergedError: the model's outputs on them are not finite.
    """
    rounded = copy.deepcopy(model)
    prepared = prepare(rounded, context.graph, edit, context.target, context.example_inputs)
    if prepared is None:
        return _described(rounded, model, context.graph, edit, context.target, context.example_inputs)
    _observe(prepared, batches(), checked=context.data is not None)
    for quantizer in prepared.quantizers.values():
        quantizer.freeze()
    refine(prepared.module, {key: site.method for key, site in prepared.sites.items()}, batches(), seed=context.seed, log=context.log)
    return finished(prepared, model, context.graph, edit, context.target, context.example_inputs)


def finished(prepared: Prepared, live: nn.Module, graph: ModelGraph, edit: GraphEdit, target: Target, example_inputs: Mapping[str, Tensor]) -> ExportedModel:
    """Convert frozen quantizers to what the target runs. ``prepared`` cannot be used any more."""
    from compressors.quantization.generating import GeneratingPrograms

    state = prepared.state()
    grids = {key: (quantizer.lowest, quantizer.highest) for key, quantizer in prepared.quantizers.items()}
    ranges = tuple(key for key in grids if key not in prepared.weights)
    with silent(), torch.no_grad():
        module = target.lower(convert_pt2e(prepared.module))
    generating = GeneratingPrograms(live, graph, edit, target, example_inputs, state, grids, ranges)
    quantized = ExportedModel(module, prepared.inputs, generating)
    quantized.prepared_state = state  # type: ignore[assignment]
    # Not as a submodule: its weights are not those of the quantized model.
    object.__setattr__(quantized, "compareto_live", live)
    _described(quantized, live, graph, edit, target, example_inputs)
    return quantized


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
    fresh = copy.deepcopy(model)
    prepared = prepare(fresh, graph, edit, target, example_inputs)
    assert prepared is not None, "a model without integers is no exported graph"
    prepared.load(state)
    return finished(prepared, model, graph, edit, target, example_inputs)


def _observe(prepared: Prepared, batches: Iterable[Mapping[str, Tensor]], *, checked: bool) -> None:
    examples, first, differ = 0, None, False
    with silent(), torch.no_grad():
        for inputs in batches:
            try:
                finite = bool(torch.isfinite(prepared(inputs)).all())
            except RuntimeError as error:
                # The histogram of an observer is the first to meet a value that is not finite.
                if "is not finite" not in str(error):
                    raise
                finite = False
            if not finite:
                raise DivergedError("calibration: the model's outputs are not finite")
            examples += len(next(iter(inputs.values())))
            first = first or {name: value[:1] for name, value in inputs.items()}
            differ = differ or any(bool((value != first[name]).any()) for name, value in inputs.items())
    static = any(not isinstance(quantizer, WeightQuantizer) for quantizer in prepared.quantizers.values())
    if not examples:
        raise UserError("quantize: the calibration split is empty; static activations need examples")
    if checked and static and examples < FEWEST_EXAMPLES:
        raise UserError(f"quantize: the calibration split has {examples} examples; accepted: at least {FEWEST_EXAMPLES}, since ranges follow from them")
    if checked and static and not differ:
        raise UserError(f"quantize: the {examples} examples of the calibration split are all equal; accepted: examples like those that the model will see")


def _described(quantized: nn.Module, model: nn.Module, graph: ModelGraph, edit: GraphEdit, target: Target, example_inputs: Mapping[str, Tensor]) -> nn.Module:
    structure: dict[str, Any] = dict(getattr(model, "compareto_structure", None) or {})
    named = [(i, site.name) for i, site in enumerate(graph.sites)]
    structure["quantize"] = {
        "target": target.name,
        "dynamic": bool(edit.dynamic),
        "inputs": {name: [str(value.dtype).removeprefix("torch."), list(value.shape)] for name, value in example_inputs.items()},
        "weight_bits": {name: int(edit.weight_bits[i]) for i, name in named if edit.weight_bits[i] < 32},
        "activation_bits": {name: int(edit.activation_bits[i]) for i, name in named if edit.activation_bits[i] < 32},
        "granularity": {name: int(edit.granularity[i]) for i, name in named if edit.granularity[i]},
        "asymmetric": [name for i, name in named if not edit.symmetric[i]],
    }
    quantized.compareto_structure = structure  # type: ignore[assignment]
    # An exported graph no longer knows its class and configuration, which a checkpoint names.
    quantized.compareto_architecture = architecture_of(model)  # type: ignore[assignment]
    return quantized


def edit_of(graph: ModelGraph, structure: Mapping[str, Any]) -> GraphEdit:
    """The edit that ``compareto_structure`` describes, of a quantized model."""
    quantized = structure["quantize"]
    names = [site.name for site in graph.sites]
    return GraphEdit(
        {name: np.asarray(kept, dtype=np.int64) for name, kept in structure.get("kept", {}).items()},
        np.array([quantized["weight_bits"].get(name, 32) for name in names], dtype=np.int64),
        np.array([quantized["activation_bits"].get(name, 32) for name in names], dtype=np.int64),
        np.array([quantized["granularity"].get(name, 0) for name in names], dtype=np.int64),
        np.array([name not in quantized["asymmetric"] for name in names], dtype=np.bool_),
        bool(quantized["dynamic"]),
    )


def _number(name: str) -> tuple[int, str]:
    """Observers are numbered in the order of the graph."""
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdigit() else -1, name)


class silent(warnings.catch_warnings):  # noqa: N801 - reads as a statement
    """Torchao warns about its own internals when observers are built and converted."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        return entered
