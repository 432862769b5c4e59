"""A live module as an exported graph module with a dynamic batch, and back to something that is called like a model."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, fx, nn

from compressors.context import logits_of
from compressors.errors import UnexportableError

__all__ = ["PREFIX", "ExportedModel", "capture", "fold_batch_norms", "two_examples"]

PREFIX = "model."
"""Parameters of the captured module carry this in front of their names."""


class _Logits(nn.Module):
    """Only the main output, so that every exported graph has one."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = tuple(names)

    def forward(self, *inputs: Tensor) -> Tensor:
        return logits_of(self.model(**dict(zip(self.names, inputs, strict=True))))


class ExportedModel(nn.Module):
    """A graph module behind the call convention of a live one. Always in eval mode: an exported graph has no other.

    Args:
        graph_module: takes its inputs by position.
        names: their names, in that order.
    """

    def __init__(self, graph_module: fx.GraphModule, names: Sequence[str]) -> None:
        super().__init__()
        self.graph_module = graph_module
        self.names = tuple(names)
        self.training = False

    def forward(self, **inputs: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.graph_module(*(inputs[name] for name in self.names))
        return logits

    def train(self, mode: bool = True) -> ExportedModel:  # noqa: ARG002 - the signature of nn.Module
        """Nothing: see the class."""
        return self


def two_examples(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs with at least two examples: torch.export takes a batch of one for a constant."""
    return {name: value.repeat(2, *[1] * (value.ndim - 1)) if len(value) == 1 else value for name, value in inputs.items()}


def capture(model: nn.Module, inputs: Mapping[str, Tensor]) -> fx.GraphModule:
    """Export ``model`` (in eval mode) with a dynamic batch.

    Raises:
        UnexportableError: torch.export cannot; says why.
    """
    examples = two_examples(inputs)
    model = _with_own_convolutions(model)
    logging.getLogger("torch.export").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            batch = torch.export.Dim("batch", min=1, max=65536)
            shapes = {"inputs": tuple({0: batch} for _ in examples)}
            program = torch.export.export(_Logits(model, list(examples)).eval(), tuple(examples.values()), dynamic_shapes=shapes, strict=False)
            return program.module(check_guards=False)
        except Exception as error:
            # torch.export raises many unrelated classes; for the caller they all mean that this model has no exported form.
            first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UnexportableError(f"torch.export with a dynamic batch: {first}") from error


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
