"""Where ONNX Runtime wants quantize/dequantize: the PT2E annotator whose placements its fusions accept.

Activations are unsigned, one scale a tensor; weights signed and symmetric, one scale an output channel (ONNX Runtime's documentation, "Quantize ONNX models").
Both inputs of a residual addition and the inputs of pooling are quantized too, so that the tensors between integer kernels stay integers.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import fx
from torchao.quantization.pt2e import HistogramObserver, PerChannelMinMaxObserver, PlaceholderObserver
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation, QuantizationSpec, Quantizer

__all__ = ["OnnxRuntimeAnnotator"]

_aten = torch.ops.aten
_WEIGHTED = {
    _aten.conv2d.default: (0, 1),
    _aten.conv1d.default: (0, 1),
    _aten.linear.default: (0, 1),
    _aten.embedding.default: (1, 0),
}
"""Position of activation and weight among the arguments."""
_ADD = (_aten.add.Tensor, _aten.add_.Tensor)
_POOL = (_aten.adaptive_avg_pool2d.default, _aten.avg_pool2d.default, _aten.mean.dim)


def _weights(bits: int, integer: bool) -> QuantizationSpec:
    # Without VNNI, x86 adds pairs of products in 16 bits: 255 * 63 * 2 fits, 255 * 127 * 2 saturates ("reduce range" in ONNX Runtime's documentation).
    top = 63 if bits == 8 and integer else 2 ** (bits - 1) - 1
    return QuantizationSpec(
        dtype=torch.int8,
        quant_min=-top,
        quant_max=top,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=2**-20),
    )


_ACTIVATION = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    observer_or_fake_quant_ctr=HistogramObserver.with_args(eps=2**-20),
)
_DYNAMIC = QuantizationSpec(
    dtype=torch.uint8,
    quant_min=0,
    quant_max=255,
    qscheme=torch.per_tensor_affine,
    is_dynamic=True,
    observer_or_fake_quant_ctr=PlaceholderObserver.with_args(eps=2**-100),
)


class OnnxRuntimeAnnotator(Quantizer):  # type: ignore[misc]  # torchao ships no types
    """Annotates convolutions, linear layers and embeddings by the name of their weight.

    Args:
        bits: weight name (as it stands in the graph module; a tied weight under each of its names) to weight bits and activation bits;
            activations of 16 and above stay float.
        dynamic: whether ranges of activations are taken at run time, by linear layers only.
    """

    def __init__(self, bits: Mapping[str, tuple[int, int]], *, dynamic: bool = False) -> None:
        super().__init__()
        self.bits = bits
        self.dynamic = dynamic

    def annotate(self, model: fx.GraphModule) -> fx.GraphModule:
        """Attach specifications to the nodes."""
        integer: set[fx.Node] = set()
        for node in model.graph.nodes:
            if node.target not in _WEIGHTED:
                continue
            activation_at, weight_at = _WEIGHTED[node.target]
            weight, activation = node.args[weight_at], node.args[activation_at]
            chosen = self.bits.get(str(weight.target)) if weight.op == "get_attr" else None
            if chosen is None:
                continue
            runs_integer = chosen[1] == 8 and node.target is not _aten.embedding.default and (node.target is _aten.linear.default or not self.dynamic)
            inputs = {weight: _weights(chosen[0], runs_integer)}
            if runs_integer:
                inputs[activation] = _DYNAMIC if self.dynamic else _ACTIVATION
                integer.add(node)
            node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        for node in model.graph.nodes:
            if node.target in (*_ADD, *_POOL) and any(_comes_from(a, integer) for a in node.all_input_nodes):
                inputs = {a: _ACTIVATION for a in node.all_input_nodes if _is_float(a) and a.op != "get_attr"}
                node.meta["quantization_annotation"] = QuantizationAnnotation(input_qspec_map=inputs, _annotated=True)
        return model

    def validate(self, model: fx.GraphModule) -> None:
        """Nothing to validate: placement is decided by weight names."""


def _is_float(node: fx.Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _comes_from(node: fx.Node, integer: set[fx.Node]) -> bool:
    """Whether a convolution that runs in integers makes this tensor, an activation or a batch norm in between."""
    for _ in range(8):
        if node in integer:
            return node.target is not _aten.linear.default
        if not node.all_input_nodes or node.op != "call_function":
            return False
        node = node.all_input_nodes[0]
    return False
