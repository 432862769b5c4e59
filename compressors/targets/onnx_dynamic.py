"""Linear layers whose activations are quantized at run time, with the arithmetic of ONNX's ``DynamicQuantizeLinear`` and ``MatMulInteger``.

PT2E converts a dynamic annotation to ``choose_qparams``, ``quantize`` and ``dequantize`` before a float ``linear``. They multiply by the inverse of the
scale where ONNX divides, and round every product. Here they become two operators of our own that round as ONNX Runtime does and that the exporter
translates one to one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from compressors.targets.graph_tensors import constant, drop_unused, tensor_of

__all__ = ["dynamic_quantize", "integer_linear", "lower_dynamic", "onnx_translations"]

_decomposed = torch.ops.quantized_decomposed
_LEVELS = 255.0


@torch.library.custom_op("compareto::dynamic_quantize", mutates_args=())
def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` as uint8, its scale and its zero point: ONNX's ``DynamicQuantizeLinear``, one range for the whole tensor, zero always in it."""
    low, high = torch.aminmax(x)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / _LEVELS
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = (-low / scale).clamp(0, _LEVELS).round()
    quantized = ((x / scale).round() + zero_point).clamp(0, _LEVELS)
    return quantized.to(torch.uint8), scale, zero_point.to(torch.uint8)


@dynamic_quantize.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x, dtype=torch.uint8), x.new_empty(()), x.new_empty((), dtype=torch.uint8)


@torch.library.custom_op("compareto::integer_linear", mutates_args=())
def integer_linear(x: Tensor, scale: Tensor, zero_point: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:
    """Product of uint8 ``[..., depth]`` with int8 ``[depth, width]`` as integers, then scaled.

    Sums below 2**24 are exact in float32, whatever the order of addition; larger ones round, as they do when ONNX casts them.
    """
    product = (x.float() - zero_point.float()) @ weight.float()
    product = product * (scale * weight_scale)
    return product if bias is None else product + bias


@integer_linear.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor, weight: Tensor, weight_scale: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG001 - the operator's signature
    return scale.new_empty((*x.shape[:-1], weight.shape[1]))


def lower_dynamic(module: fx.GraphModule) -> fx.GraphModule:
    """Replace dynamically quantized linear layers of a converted module, in place, and drop the tensors that no layer reads any more."""
    quantized: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for node in list(module.graph.nodes):
        if node.target is not torch.ops.aten.linear.default or node.args[0].target is not _decomposed.dequantize_per_tensor.tensor:
            continue
        activation, weight = node.args[0], node.args[1]
        if activation not in quantized:
            with module.graph.inserting_before(activation):
                call = module.graph.call_function(torch.ops.compareto.dynamic_quantize.default, (activation.args[0].args[0],))
                quantized[activation] = tuple(module.graph.call_function(operator.getitem, (call, i)) for i in range(3))
        stored, scale = weight.args[0], weight.args[1]
        with module.graph.inserting_before(node):
            weight_scale = tensor_of(module, scale).float() if isinstance(scale, fx.Node) else torch.tensor(scale)
            constants = [constant(module, f"{stored.target}_integer", tensor_of(module, stored).t()), constant(module, f"{stored.target}_step", weight_scale)]
            bias = node.args[2] if len(node.args) > 2 else None
            replacement = module.graph.call_function(torch.ops.compareto.integer_linear.default, (*quantized[activation], *constants, bias))
        replacement.meta = {k: v for k, v in node.meta.items() if k in ("val", "nn_module_stack", "stack_trace")}
        node.replace_all_uses_with(replacement)
        module.graph.erase_node(node)
    if quantized:
        # A chain of choose_qparams has no side effect, but fx takes unknown operators to be pure only one pass at a time.
        module.graph.eliminate_dead_code()
        module.recompile()
    drop_unused(module)
    return module


def onnx_translations() -> dict[Any, Callable[..., Any]]:
    """How ``torch.onnx.export`` writes the operators above: the form that ONNX Runtime fuses to DynamicQuantizeMatMul and MatMulIntegerToFloat."""
    from onnxscript import FLOAT
    from onnxscript.onnx_opset import opset21 as op

    def quantize(x: Any) -> Any:
        return op.DynamicQuantizeLinear(x)

    def linear(x: Any, scale: Any, zero_point: Any, weight: Any, weight_scale: Any, bias: Any = None) -> Any:
        product = op.Mul(op.Cast(op.MatMulInteger(x, weight, zero_point), to=FLOAT.dtype), op.Mul(scale, weight_scale))
        return product if bias is None else op.Add(product, bias)

    return {torch.ops.compareto.dynamic_quantize.default: quantize, torch.ops.compareto.integer_linear.default: linear}
