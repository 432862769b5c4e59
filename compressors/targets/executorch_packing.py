"""Converted weights in the forms that ExecuTorch's kernels read."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from compressors.targets.executorch_annotator import FUSED
from compressors.targets.graph_tensors import constant, drop_unused, tensor_of
from compressors.targets.site_annotator import WEIGHTED

__all__ = ["pack"]

_aten = torch.ops.aten
_decomposed = torch.ops.quantized_decomposed


def pack(module: fx.GraphModule) -> fx.GraphModule:
    """Each quantized weight in the form of its kernel, in place.

    A convolution's and a linear layer's gets one scale a channel, and the limits by which the partitioner tells 4 bits from 8; a linear layer with float
    activations gives its bias to an addition of its own, since a bias is taken for quantized where the weight is; a table becomes an operator that looks up
    rows and dequantizes them.
    """
    nodes: list[Any] = [node for node in module.graph.nodes if node.target in WEIGHTED]
    for node in nodes:
        kind, activation_at, weight_at = WEIGHTED[node.target]
        weight = node.args[weight_at]
        if "dequantize" not in str(weight.target):
            continue
        with module.graph.inserting_before(node):
            if kind == "embedding":
                _substitute(module, node, _table(module, node.args[activation_at], weight))
                continue
            node.replace_input_with(weight, _dequantized(module, weight, packs=kind == "linear"))
            if kind == "linear" and _only_weights(node) and len(node.args) > 2 and node.args[2] is not None:
                product = module.graph.call_function(node.target, node.args[:2])
                _substitute(module, node, module.graph.call_function(_aten.add.Tensor, (product, node.args[2])))
    module.graph.eliminate_dead_code()
    module.recompile()
    drop_unused(module)
    return module


def _substitute(module: fx.GraphModule, old: fx.Node, new: fx.Node) -> None:
    new.meta = dict(old.meta)
    old.replace_all_uses_with(new)
    module.graph.erase_node(old)


def _dequantized(module: fx.GraphModule, weight: Any, *, packs: bool) -> fx.Node:
    """Of a weight ``[outputs, inputs, ...]``; ``packs``: whether the kernel reads 4 bits."""
    stored, scale, zero, highest = _constants(module, weight)
    limits = (-8, 7, torch.int8) if packs and highest <= 7 else (-128, 127, torch.int8)
    if scale.ndim < 2:
        scale, zero = (value.expand(len(stored)).contiguous() for value in (scale, zero))
    names = [constant(module, f"{weight.name}_{end}", value) for end, value in (("scale", scale), ("zero", zero))]
    if scale.ndim < 2:
        new = module.graph.call_function(_decomposed.dequantize_per_channel.default, (weight.args[0], *names, 0, *limits))
    else:
        arguments = (weight.args[0], *names, *limits, stored.shape[1] // scale.shape[1], torch.float32)
        new = module.graph.call_function(_decomposed.dequantize_per_channel_group.default, arguments)
    new.meta = dict(weight.meta)
    return new


def _only_weights(node: fx.Node) -> bool:
    """Whether a linear layer with an integer weight computes in floats: its input is none, or its output is none where ranges are static."""
    entering = str(getattr(node.args[0], "target", ""))
    last = next(iter(node.users)) if len(node.users) == 1 and next(iter(node.users)).target in FUSED else node
    leaves_integers = all("quantized_decomposed.quantize_per_tensor" in str(user.target) for user in last.users)
    return "dequantize" not in entering or ("per_tensor" in entering and not leaves_integers)


def _constants(module: fx.GraphModule, weight: Any) -> tuple[Tensor, Tensor, Tensor, int]:
    """Integers, scales, zero points and the largest integer of a dequantized weight."""
    if "affine" in str(weight.target):
        stored, _, scale, zero, _, _, highest = weight.args[:7]
    elif "channel" in str(weight.target):
        stored, scale, zero, _, _, highest = weight.args[:6]
    else:
        stored, scale, zero, _, highest = weight.args[:5]
    values = [tensor_of(module, v) if isinstance(v, fx.Node) else torch.tensor([v]) for v in (stored, scale, zero)]
    return values[0], values[1].float(), values[2].long(), int(highest)


def _table(module: fx.GraphModule, indices: fx.Node, weight: Any) -> fx.Node:
    stored, scale, zero, highest = _constants(module, weight)
    bits = next(b for b in (2, 4, 8) if highest < 2 ** (b - 1) and stored.shape[1] % (8 // b) == 0)
    rows = len(stored)
    if scale.ndim < 2:
        scale, zero = scale.expand(rows).contiguous(), zero.expand(rows).contiguous()
    if bits < 8:
        stored = torch.ops.quant_fusion._pack_embedding_weight.default(stored, bits)  # noqa: SLF001 - the layout is known there only
    name = {2: "embedding_2bit", 4: "embedding_4bit", 8: "embedding_byte"}[bits]
    names = [constant(module, f"{weight.name}_{end}", value) for end, value in (("packed", stored), ("scale", scale))]
    zeros = constant(module, f"{weight.name}_zero", zero.float()) if bool(zero.any()) else None
    lowest = -(2 ** (bits - 1))
    return module.graph.call_function(getattr(_decomposed, name).default, (*names, zeros, lowest, -lowest - 1, indices))
