"""A live module as an exported graph module with axes that may have any size, and back to something that is called like a model."""

from __future__ import annotations

import copy
import dataclasses
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram

from compressors.context import logits_of
from compressors.errors import UnexportableError
from compressors.evaluating import evaluating
from compressors.targets.programs import ExportableProgram, forward_pass
from compressors.targets.signature import SEQUENCE, Signature

__all__ = ["PREFIX", "ExportedModel", "capture", "capture_program", "fold_batch_norms", "run_captured", "signature_of", "takes"]

PREFIX = "model."
"""Parameters of the captured module carry this in front of their names."""

_SIGNATURE = "compareto_signature"
_log = logging.getLogger(__name__)


class ExportedModel(nn.Module):
    """A graph module behind the call convention of a live one. Always in eval mode: an exported graph has no other.

    Args:
        graph_module: takes its inputs by position.
        names: of a model's own inputs, in that order.
        generating: captures what the model generates with (see ``generating_programs``), with the same weights; None where that cannot be done.
    """

    def __init__(self, graph_module: fx.GraphModule, names: Sequence[str], generating: Callable[[], dict[str, fx.GraphModule]] | None = None) -> None:
        super().__init__()
        self.graph_module = graph_module
        self.names = tuple(names)
        self.generating = generating
        self.training = False

    def forward(self, **inputs: Tensor) -> Tensor:
        """The logits."""
        return run_captured(self.graph_module, self.names, inputs)

    def train(self, mode: bool = True) -> ExportedModel:  # noqa: ARG002 - the signature of nn.Module
        """Nothing: see the class."""
        return self


def run_captured(module: fx.GraphModule, names: Sequence[str], inputs: Mapping[str, Tensor]) -> Tensor:
    """The logits of what ``capture`` returned, prepared and converted modules included; where a cache is taken, it is empty.

    Args:
        module: the graph.
        names: of the inputs by position, for a module that has no signature.
        inputs: the model's own.
    """
    signature = module.meta.get(_SIGNATURE)
    return logits_of(module(*(signature.arguments(inputs) if signature else (inputs[name] for name in names))))


def takes(module: fx.GraphModule, inputs: Mapping[str, Tensor]) -> None:
    """Note that the inputs of a captured module were changed, to some like ``inputs`` in batches of any size."""
    module.meta[_SIGNATURE] = forward_pass(module, inputs, sequence=False).signature


def signature_of(module: fx.GraphModule, inputs: Mapping[str, Tensor]) -> Signature:
    """Of a captured module; ``inputs`` are those of one call."""
    return module.meta.get(_SIGNATURE) or forward_pass(module, inputs, sequence=False).signature


def capture(model: nn.Module, inputs: Mapping[str, Tensor]) -> fx.GraphModule:
    """Export the forward pass of ``model`` in eval mode, for batches of any size, and texts of any length where its code allows.

    Where it does not, the note of ``signature_of`` says why.

    Args:
        model: is left as it is.
        inputs: of one call.

    Raises:
        UnexportableError: torch.export cannot; says why.
    """
    model = _with_own_convolutions(model)
    program, notes = forward_pass(model, inputs, sequence=True), []
    if any(len(axes) > 1 for axes in program.signature.axes):
        try:
            return capture_program(program, inputs)
        except UnexportableError as error:
            notes.append(f"texts keep their length: {error}")
    try:
        return capture_program(forward_pass(model, inputs, sequence=False), inputs, notes)
    except UnexportableError as error:
        raise UnexportableError(f"torch.export with a dynamic batch: {error}") from error


def capture_program(program: ExportableProgram, inputs: Mapping[str, Tensor], notes: Sequence[str] = ()) -> fx.GraphModule:
    """Export one program of a model.

    Args:
        program: its module is left as it is.
        inputs: the model's own, of one call.
        notes: why it is not another program; logged, and kept in its signature.

    Raises:
        UnexportableError: torch.export cannot; says why.
    """
    signature, arguments = program.signature, program.signature.examples(inputs)
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad(), evaluating(program.module):
        warnings.simplefilter("ignore")
        try:
            shapes = {"inputs": tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in signature.axes)}
            exported = torch.export.export(program.module, arguments, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            # torch.export raises many unrelated classes; for the caller they all mean that this model has no exported form.
            raise UnexportableError(_first_reason(error)) from error
    captured: fx.GraphModule = exported.module(check_guards=False)
    signature = dataclasses.replace(signature, longest=_longest(exported, signature), note="; ".join(notes))
    if notes:
        _log.warning("%s", signature.note)
    captured.meta[_SIGNATURE] = signature
    return captured


def _first_reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "specialized" in line), lines[0]).removeprefix("- ")


def _longest(program: ExportedProgram, signature: Signature) -> int | None:
    """The bound that the configuration names, or a lower one that tracing has met: of a table of positions that is cut to the length of the text."""
    bounds = [] if signature.longest is None else [signature.longest]
    names = set(program.graph_signature.user_inputs)
    nodes = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    for node, axes in zip(nodes, signature.axes, strict=True):
        for at in (at for at, name in axes.items() if name == SEQUENCE):
            size = node.meta["val"].shape[at]
            bound = program.range_constraints[size.node.expr].upper if isinstance(size, torch.SymInt) else None
            if bound is not None and bound.is_Integer:
                bounds.append(int(bound))
    return min(bounds, default=None)


def _with_own_convolutions(model: nn.Module) -> nn.Module:
    """``model``, or a copy where convolutions share weights: in the copy each has its own, since a batch norm that follows is folded into them."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd)]  # noqa: SLF001 - the one common base
    weights = [id(parameter) for module in convolutions for parameter in module.parameters(recurse=False)]
    if len(set(weights)) == len(weights):
        return model
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):  # noqa: SLF001 - see above
            for name, parameter in module.named_parameters(recurse=False):
                module.register_parameter(name, nn.Parameter(parameter.detach().clone(), parameter.requires_grad))
    return model


def fold_batch_norms(module: fx.GraphModule) -> fx.GraphModule:
    """Batch norms that follow a convolution become part of it, in place: in eval mode they are affine."""
    from torchao.quantization.pt2e.utils import _fuse_conv_bn_

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _fuse_conv_bn_(module)
    return module
