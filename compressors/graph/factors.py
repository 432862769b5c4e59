"""Layers as products of two cheaper ones, thin or depthwise-separable: which can be that, and the module that stands in their place."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from compressors.graph.renumbering import carry_table

__all__ = ["Factorised", "Separable", "is_factorable", "is_separable", "replace_layer", "separate", "split", "stores_inputs_first"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Factorised(nn.Module):
    """``second(first(x))``, where one layer was.

    Args:
        first: from the layer's inputs to ``rank`` values, without a bias.
        second: from there to the layer's outputs, with its bias.
        inputs_first: whether the layer stored its weight as ``[inputs, outputs]``.
    """

    described: ClassVar[str] = "low-rank factors"

    def __init__(self, first: nn.Module, second: nn.Module, *, inputs_first: bool = False) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.inputs_first = inputs_first

    def forward(self, x: Tensor) -> Tensor:
        """What the one layer would return for the product of the factors."""
        y: Tensor = self.second(self.first(x))
        return y

    @property
    def weight(self) -> Tensor:
        """That of the second factor, ``[outputs, rank]``: code of models asks layers for the dtype and the device of their weight."""
        return self.second.get_parameter("weight")

    @property
    def bias(self) -> Tensor | None:
        """The layer's bias."""
        bias: Tensor | None = self.second.bias  # type: ignore[assignment]
        return bias

    def __getattr__(self, name: str) -> Any:
        """What a layer is asked for besides, such as its stride or its number of channels: the first factor begins as the layer did, the second ends so."""
        factors = self.__dict__.get("_modules", {})
        if name.startswith("_") or len(factors) < 2 or name in factors or name in self.__dict__["_buffers"]:
            return super().__getattr__(name)
        return getattr(factors["second" if name.startswith("out_") else "first"], name)

    def located(self, attribute: str, dim: int) -> tuple[tuple[str, int], ...]:
        """Where a dimension of the layer's ``weight`` or ``bias`` is now: names below this module, and their dimensions."""
        if attribute == "bias":
            return (("second.bias", dim),)
        outputs = 1 if self.inputs_first else 0
        return (("second.weight", 0) if dim == outputs else ("first.weight", 1) if dim == 1 - outputs else ("first.weight", dim),)


class Separable(Factorised):
    """A depthwise convolution, one kernel for each input channel, and then one of kernel 1 that mixes the channels."""

    described: ClassVar[str] = "a depthwise-separable convolution"

    def located(self, attribute: str, dim: int) -> tuple[tuple[str, int], ...]:
        """See ``Factorised.located``; both have the input channels."""
        if attribute == "weight" and dim == 1:
            return (("first.weight", 0), ("second.weight", 1))
        return super().located(attribute, dim)


def is_factorable(module: nn.Module) -> bool:
    """Whether ``module`` is a linear layer (that of GPT-2 too) or a convolution of kernel 1 in one group. Subclasses may compute anything else."""
    if type(module) in _CONVOLUTIONS:
        convolution: Any = module
        return convolution.groups == 1 and set(convolution.kernel_size) == {1}
    return type(module) is nn.Linear or stores_inputs_first(module)


def is_separable(module: nn.Module) -> bool:
    """Whether ``module`` is a dense spatial convolution: in one or two dimensions, of one group, a kernel above 1 and several channels on both sides."""
    if type(module) not in (nn.Conv1d, nn.Conv2d):
        return False
    convolution: Any = module
    return bool(convolution.groups == 1 and max(convolution.kernel_size) > 1 and min(convolution.in_channels, convolution.out_channels) > 1)


def stores_inputs_first(module: nn.Module) -> bool:
    """Whether the weight is ``[inputs, outputs]``: that of the linear layer of GPT-2, which is called Conv1D."""
    return f"{type(module).__module__}.{type(module).__name__}" == "transformers.pytorch_utils.Conv1D"


def split(module: nn.Module, rank: int) -> Factorised:
    """Two layers in place of a factorable one, with its bias and weights that are not set yet."""
    layer: Any = module
    made = {"device": "meta", "dtype": layer.weight.dtype}
    first: nn.Module
    second: nn.Module
    if type(module) in _CONVOLUTIONS:
        placed = {"stride": layer.stride, "padding": layer.padding, "padding_mode": layer.padding_mode}
        first = type(module)(layer.in_channels, rank, 1, bias=False, **placed, **made)
        second = type(module)(rank, layer.out_channels, 1, bias=layer.bias is not None, **made)
    else:
        inputs, outputs = layer.weight.shape if stores_inputs_first(module) else layer.weight.shape[::-1]
        first = nn.Linear(inputs, rank, bias=False, **made)
        second = nn.Linear(rank, outputs, bias=layer.bias is not None, **made)
    _place(first, second, layer)
    return Factorised(first, second, inputs_first=stores_inputs_first(module)).train(module.training)


def separate(module: nn.Module) -> Separable:
    """A depthwise and a pointwise convolution in place of a dense one, with its stride, padding, dilation and bias, and weights that are not set yet."""
    layer: Any = module
    kind: Any = type(module)
    made = {"device": "meta", "dtype": layer.weight.dtype}
    placed = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, "padding_mode": layer.padding_mode}
    first = kind(layer.in_channels, layer.in_channels, layer.kernel_size, groups=layer.in_channels, bias=False, **placed, **made)
    second = kind(layer.in_channels, layer.out_channels, 1, bias=layer.bias is not None, **made)
    _place(first, second, layer)
    return Separable(first, second).train(module.training)


def _place(first: nn.Module, second: nn.Module, layer: Any) -> None:
    """Put the factors where ``layer`` lies, trainable where it is, with its bias."""
    for factor in (first, second):
        # Made on the meta device first: values that are replaced anyway need no random numbers.
        factor.to_empty(device=layer.weight.device)
        factor.get_parameter("weight").requires_grad_(layer.weight.requires_grad)
    if layer.bias is not None:
        second.register_parameter("bias", layer.bias)


def replace_layer(model: nn.Module, path: str, layer: nn.Module) -> None:
    """Put ``layer`` where ``path`` is, in place; the table of a trimmed vocabulary stays behind it."""
    owner, _, name = path.rpartition(".")
    carry_table(model.get_submodule(path), layer)
    model.get_submodule(owner).register_module(name, layer)
