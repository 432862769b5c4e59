"""A converted module with the arithmetic of LiteRT's kernels."""

from __future__ import annotations

from typing import Any

import torch
import torchao.quantization.quant_primitives  # noqa: F401 - registers dequantize_affine
from torch import Tensor, fx

__all__ = ["lower", "round_rows", "stored_scale"]

_decomposed = torch.ops.quantized_decomposed
_GROUPS = (torch.ops.torchao.dequantize_affine, torch.ops.torchao.dequantize_affine.default)


@torch.library.custom_op("compareto::round_rows", mutates_args=())
def round_rows(x: Tensor) -> Tensor:
    """Each row ``[..., inputs]`` rounded to 256 levels of its own range, zero among them: what XNNPACK multiplies int8 weights with (``qd8``)."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = (-128 - low / scale).round()
    return (((x / scale).round() + zero_point).clamp(-128, 127) - zero_point) * scale


@round_rows.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


def stored_scale(scale: Tensor) -> Tensor:
    """Of groups: XNNPACK keeps them as bfloat16, the other kernels as float16; so what both hold exactly."""
    return scale.bfloat16().half().float()


def lower(module: fx.GraphModule) -> fx.GraphModule:
    """In place: ranges at run time are taken by row, and scales of groups have the 16 bits that the format gives them."""
    graph = module.graph
    rounded: dict[fx.Node, fx.Node] = {}
    for node in list(graph.nodes):
        if node.target in _GROUPS and any(_reads_blocks(user, node) for user in node.users):
            scale = module.get_buffer(str(node.args[2].target))
            scale.copy_(stored_scale(scale))
    for node in list(graph.nodes):
        if node.target is _decomposed.dequantize_per_tensor.tensor:
            source = node.args[0].args[0]
            if source not in rounded:
                with graph.inserting_before(node):
                    rounded[source] = graph.call_function(torch.ops.compareto.round_rows.default, (source,))
                rounded[source].meta = {key: value for key, value in node.meta.items() if key in ("val", "nn_module_stack", "stack_trace")}
            node.replace_all_uses_with(rounded[source])
    graph.eliminate_dead_code()
    module.recompile()
    return module


def _reads_blocks(user: fx.Node, weight: fx.Node) -> bool:
    """Whether the kernel reads groups as they are stored; see ``litert_forms``."""
    if user.target is torch.ops.aten.embedding.default:
        highest: Any = weight.args[6]
        return int(highest) < 127
    activation = user.args[0]
    return isinstance(activation, fx.Node) and activation.target is _decomposed.dequantize_per_tensor.tensor
