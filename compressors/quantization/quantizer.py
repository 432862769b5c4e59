"""The observers that PT2E places: each sees values, is frozen to a scale and a zero point, and becomes quantize and dequantize operators.

The state of a prepared model is therefore its weights plus these two numbers a site. Whoever changes a weight behind a frozen quantizer (better rounding,
quantization-aware training) decides its integers: they are the nearest ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx
from torchao.quantization.pt2e import HistogramObserver, ObserverBase
from torchao.quantization.pt2e.quantizer import QuantizationSpec

from compressors.quantization.ranges import activation_range, scale_of, weight_range
from compressors.quantization.straight_through import fake_quantize
from compressors.targets.graph_tensors import constant, tensor_of
from compressors.targets.site_spec import CHANNEL, TENSOR, Observer, SiteMethod, SiteSpec, WeightRange

__all__ = ["ActivationQuantizer", "SiteQuantizer", "WeightQuantizer", "activation_spec", "effective_granularity", "weight_spec"]

_decomposed = torch.ops.quantized_decomposed


class SiteQuantizer(ObserverBase):  # type: ignore[misc]  # torchao ships no types
    """What both kinds have in common.

    Args:
        key: names it in the state of a model, whatever the graph is numbered like.
        lowest, highest: the integers that are available.
        dtype: that they are stored in.

    Attributes:
        scale, zero_point: empty until frozen; then float32 and int64 of the same shape.
        simulate: fake-quantizes where it is set, with a straight-through gradient; else values pass as they are.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, key: str, lowest: int, highest: int, dtype: torch.dtype) -> None:
        super().__init__(dtype=dtype)
        self.key, self.lowest, self.highest = key, lowest, highest
        self.register_buffer("scale", torch.empty(0))
        self.register_buffer("zero_point", torch.empty(0, dtype=torch.int64))
        self.simulate = False

    @property
    def frozen(self) -> bool:
        """Whether scale and zero point are decided."""
        return self.scale.numel() > 0

    def set_parameters(self, scale: Tensor, zero_point: Tensor) -> None:
        """Freeze to these."""
        self.scale, self.zero_point = scale.detach().clone(), zero_point.detach().clone()

    def freeze(self) -> None:
        """Decide scale and zero point from what was seen."""
        raise NotImplementedError

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point."""
        return self.scale, self.zero_point

    def integers(self, x: Tensor) -> Tensor:
        """The integers of values, in their dtype."""
        raise NotImplementedError

    def fake_quantize(self, x: Tensor) -> Tensor:
        """Quantized and dequantized values; the gradient passes straight through where nothing is clipped."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """For printed models."""
        return f"{self.key}, {self.lowest}..{self.highest}"


class WeightQuantizer(SiteQuantizer):
    """Of a weight ``[outputs, inputs, ...]`` (rows of an embedding are its outputs).

    Args:
        key: the weight's name.
        bits: 2, 3, 4 or 8.
        granularity: see ``SiteSpec``; groups are only formed where they divide the input of a matrix, else there is one scale a channel.
        symmetric: whether the zero point is zero.
        method: of the range.
        top: the largest integer where it is not that of ``bits``; -top is then the least.
    """

    def __init__(
        self, key: str, bits: int, granularity: int = CHANNEL, symmetric: bool = True, method: WeightRange = "mse", top: int | None = None, **_: Any
    ) -> None:
        highest = top or 2 ** (bits - 1) - 1
        super().__init__(key, -highest if symmetric else -highest - 1, highest, torch.int8)
        self.bits, self.granularity, self.symmetric, self.method = bits, granularity, symmetric, method

    def forward(self, weight: Tensor) -> Tensor:
        """The weight as it is, or fake-quantized."""
        if not self.frozen:
            with torch.no_grad():
                self.set_parameters(*self.parameters_for(weight))
        return self.fake_quantize(weight) if self.simulate else weight

    def freeze(self) -> None:
        """Nothing left to do: the first look at a weight shows all of it."""

    def parameters_for(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point by the values of a weight: ``[]``, ``[outputs]`` or ``[outputs, groups]``."""
        shape = self._shape(weight)
        scale, zero = weight_range(weight.detach().float().reshape(-1, shape[-1]), self.method, self.lowest, self.highest, symmetric=self.symmetric)
        return scale.reshape(shape[:-1]), zero.reshape(shape[:-1])

    def _shape(self, weight: Tensor) -> tuple[int, ...]:
        granularity = effective_granularity(self.granularity, weight.shape)
        if granularity == TENSOR:
            return (weight.numel(),)
        if granularity == CHANNEL:
            return (weight.shape[0], weight[0].numel())
        return (weight.shape[0], weight.shape[1] // granularity, granularity)

    def integers(self, weight: Tensor) -> Tensor:
        """Nearest ones, int8, of the weight's shape."""
        values = weight.detach().reshape(self._shape(weight)) / self.scale[..., None]
        return (values.round() + self.zero_point[..., None]).clamp(self.lowest, self.highest).to(torch.int8).reshape(weight.shape)

    def fake_quantize(self, weight: Tensor) -> Tensor:
        """See ``SiteQuantizer``; the scale receives a gradient, too, where it requires one."""
        values = weight.reshape(self._shape(weight))
        return fake_quantize(values, self.scale[..., None], self.zero_point[..., None], self.lowest, self.highest).reshape(weight.shape)

    def convert(self, model: fx.GraphModule, node: fx.Node) -> None:
        """Replace the observer by a constant of integers and the operator that dequantizes it."""
        source = node.args[0]
        assert isinstance(source, fx.Node), "an observer has one input"
        weight = tensor_of(model, source)
        granularity = effective_granularity(self.granularity, weight.shape)
        name = str(source.target).replace(".", "_")
        with torch.no_grad(), model.graph.inserting_before(node):
            stored = constant(model, f"{name}_integers", self.integers(weight))
            span = (self.lowest, self.highest, torch.int8)
            if granularity == TENSOR:
                dequantized = model.graph.call_function(_decomposed.dequantize_per_tensor.default, (stored, float(self.scale), int(self.zero_point), *span))
            else:
                scale = constant(model, f"{name}_scale", self.scale)
                zero = constant(model, f"{name}_zero_point", self.zero_point)
                if granularity == CHANNEL:
                    dequantized = model.graph.call_function(_decomposed.dequantize_per_channel.default, (stored, scale, zero, 0, *span))
                else:
                    arguments = (stored, (1, granularity), scale, zero, torch.int8, self.lowest, self.highest)
                    dequantized = model.graph.call_function(torch.ops.torchao.dequantize_affine, arguments)
        dequantized.meta = {key: value for key, value in node.meta.items() if key in ("val", "nn_module_stack", "stack_trace")}
        node.replace_all_uses_with(dequantized)
        model.graph.erase_node(node)


class ActivationQuantizer(SiteQuantizer):
    """Of an activation, one range for the whole tensor, from calibration data.

    Args:
        key: names the tensor.
        observer: how the range follows from the histogram.
        lowest, highest, dtype: of the integers.
        symmetric: whether the zero point is zero.
    """

    def __init__(self, key: str, observer: Observer, lowest: int, highest: int, dtype: torch.dtype, symmetric: bool = False, **_: Any) -> None:
        super().__init__(key, lowest, highest, dtype)
        self.observer, self.symmetric = observer, symmetric
        # Not as a submodule: a histogram is no part of the model's state.
        histogram = HistogramObserver(dtype=torch.uint8, qscheme=torch.per_tensor_affine, quant_min=0, quant_max=255, eps=2**-20)
        object.__setattr__(self, "_histogram", histogram)
        self._lowest_seen, self._highest_seen = float("inf"), float("-inf")

    def forward(self, x: Tensor) -> Tensor:
        """The tensor as it is, seen; or fake-quantized."""
        if self.simulate:
            return self.fake_quantize(x)
        if not self.frozen and x.numel():
            if self.observer == "min-max":
                low, high = torch.aminmax(x.detach())
                self._lowest_seen, self._highest_seen = min(self._lowest_seen, float(low)), max(self._highest_seen, float(high))
            else:
                self._histogram(x.detach())
        return x

    def freeze(self) -> None:
        """Decide the range, and let go of the histogram."""
        if self.observer == "min-max":
            low, high = torch.tensor(self._lowest_seen), torch.tensor(self._highest_seen)
        else:
            low, high = activation_range(self._histogram, self.observer, self.highest - self.lowest + 1)
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            # The tensor was never computed: any range does.
            low, high = torch.zeros(()), torch.ones(())
        self.set_parameters(*scale_of(low.reshape(()), high.reshape(()), self.lowest, self.highest, symmetric=self.symmetric))
        object.__setattr__(self, "_histogram", None)

    def integers(self, x: Tensor) -> Tensor:
        """Nearest ones."""
        return ((x / self.scale).round() + self.zero_point).clamp(self.lowest, self.highest).to(self.dtype)

    def fake_quantize(self, x: Tensor) -> Tensor:
        """See ``SiteQuantizer``."""
        return fake_quantize(x, self.scale, self.zero_point, self.lowest, self.highest, inverse=True)

    def convert(self, model: fx.GraphModule, node: fx.Node) -> None:
        """Replace the observer by quantize and dequantize."""
        arguments = (float(self.scale), int(self.zero_point), self.lowest, self.highest, self.dtype)
        with model.graph.inserting_before(node):
            quantized = model.graph.call_function(_decomposed.quantize_per_tensor.default, (node.args[0], *arguments))
            dequantized = model.graph.call_function(_decomposed.dequantize_per_tensor.default, (quantized, *arguments))
        dequantized.meta = {key: value for key, value in node.meta.items() if key in ("val", "nn_module_stack", "stack_trace")}
        node.replace_all_uses_with(dequantized)
        model.graph.erase_node(node)


def effective_granularity(granularity: int, shape: tuple[int, ...] | torch.Size) -> int:
    """Of a weight of this shape: groups only where they divide the input of a matrix, else one scale a channel."""
    return CHANNEL if granularity > 0 and (len(shape) != 2 or shape[1] % granularity) else granularity


def weight_spec(site: SiteSpec, *, top: int | None = None) -> QuantizationSpec:
    """For an annotator: how a site's weight is quantized. One object for every reader of the weight: PT2E compares them by identity."""
    highest = top or 2 ** (site.weight_bits - 1) - 1
    constructor = WeightQuantizer.with_args(
        key=site.name, bits=site.weight_bits, granularity=site.granularity, symmetric=site.symmetric, method=site.method.weight_range, top=top
    )
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-highest - (not site.symmetric),
        quant_max=highest,
        qscheme=torch.per_channel_symmetric if site.symmetric else torch.per_channel_affine,
        ch_axis=0,
        observer_or_fake_quant_ctr=constructor,
    )


def activation_spec(key: str, method: SiteMethod, dtype: torch.dtype, lowest: int, highest: int, *, symmetric: bool = False) -> QuantizationSpec:
    """For an annotator: a static activation."""
    constructor = ActivationQuantizer.with_args(key=key, observer=method.observer, lowest=lowest, highest=highest, symmetric=symmetric)
    return QuantizationSpec(
        dtype=dtype,
        quant_min=lowest,
        quant_max=highest,
        qscheme=torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine,
        observer_or_fake_quant_ctr=constructor,
    )
