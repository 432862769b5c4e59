"""Weights times the size of what they are multiplied by [Sun2024]_."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compressors.context import Batch
from compressors.errors import DivergedError
from compressors.graph.factors import stores_inputs_first
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.criteria.criterion import Criterion, Loss, UnitScores, accumulate, weights

__all__ = ["Activation"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Activation(Criterion):
    """``|weight|`` times the root mean square of the input that it is multiplied by, summed over the weights of a unit.

    Averaged over the parameters that the unit is part of. Means are over all calibration examples and all places of an input (tokens, pixels): the mean, where
    the source takes the sum, changes no order within a layer and lets layers of different resolution compare. The input of an embedding is how often each row
    is read. Weights with an input of size one by construction count as they are: scales behind a normalisation, and positions and classes that are added. So do
    those whose inputs no module shows (recurrent layers, ``nn.MultiheadAttention``).

    .. [Sun2024] Sun et al., A Simple and Effective Pruning Approach for Large Language Models, ICLR 2024.
    """

    name: ClassVar[str] = "activation"
    needs_data: ClassVar[bool] = True

    def score(self, model: nn.Module, graph: ModelGraph, batches: Iterable[Batch], loss: Loss | None) -> UnitScores:  # noqa: ARG002  (no gradient is taken)
        """See ``Criterion``."""
        chosen = weights(model, graph)
        inputs = _input_sizes(model, {name.rpartition(".")[0] for name in chosen}, batches)
        elements: dict[str, Tensor] = {}
        for name, weight in chosen.items():
            owner, _, attribute = name.rpartition(".")
            elements[name] = weight.detach().abs().double()
            if attribute == "weight" and owner in inputs:
                elements[name] = elements[name] * _along_weight(model.get_submodule(owner), weight, inputs[owner])
        return accumulate(graph, elements)


def _input_sizes(model: nn.Module, owners: set[str], batches: Iterable[Batch]) -> dict[str, Tensor]:
    """Root mean square of each input feature (frequency of each row of an embedding), ``[features]``, of the modules that have such."""
    squares: dict[str, Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            value = args[0] if args else next(iter(kwargs.values()))
            found, count = _squares(module, value.detach())
            squares[name] = squares[name] + found if name in squares else found
            counts[name] = counts.get(name, 0) + count

        return hook

    layers = {name: model.get_submodule(name) for name in sorted(owners)}
    hooks = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in layers.items() if _features(layer) is not None]
    modes = [(module, module.training) for module in model.modules()]
    device = next(model.parameters()).device
    try:
        model.eval()
        with torch.no_grad():
            for batch in batches:
                model(**batch.to(device).inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes:
            module.training = training
    for name, value in squares.items():
        if not torch.isfinite(value).all():
            raise DivergedError(f"the input of {name} is not finite on calibration data")
    return {name: (value / counts[name]).sqrt() for name, value in squares.items()}


def _features(layer: nn.Module) -> int | None:
    """Where the features of a layer's input are, counted from its last dimension; None for a layer whose input is not looked at."""
    if isinstance(layer, _CONVOLUTIONS + _TRANSPOSED):
        return -len(layer.kernel_size) - 1
    return -1 if isinstance(layer, (nn.Linear, nn.Embedding)) or stores_inputs_first(layer) else None


def _squares(layer: nn.Module, value: Tensor) -> tuple[Tensor, int]:
    """Sum of squares of each feature, and how many values were summed."""
    if isinstance(layer, nn.Embedding):
        return torch.bincount(value.flatten(), minlength=len(layer.weight)).double(), value.numel()
    features = _features(layer)
    assert features is not None, "only layers whose input is looked at are watched"
    rows = value.movedim(features, -1).flatten(0, -2).double()
    return rows.square().sum(0), len(rows)


def _along_weight(layer: nn.Module, weight: Tensor, sizes: Tensor) -> Tensor:
    """``sizes`` of the inputs, shaped to be multiplied with ``weight``."""
    if isinstance(layer, _CONVOLUTIONS):
        groups = layer.groups
        return sizes.view(groups, -1).repeat_interleave(weight.shape[0] // groups, dim=0).view(*weight.shape[:2], *[1] * (weight.dim() - 2))
    if isinstance(layer, nn.Linear):
        return sizes
    # Transposed convolutions, embeddings and the layers of GPT-2 have their inputs first.
    return sizes.view(-1, *[1] * (weight.dim() - 1))
