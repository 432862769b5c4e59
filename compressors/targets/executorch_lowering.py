"""Numerics of XNNPACK where they are not those of PT2E's quantize and dequantize."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["quantize_rows", "rounded_rows", "shorten_scales"]

_decomposed = torch.ops.quantized_decomposed
_ROW = (-128, 127, torch.int8)


def quantize_rows(module: fx.GraphModule) -> fx.GraphModule:
    """Ranges that are taken at run time become those of each row (each token), in place: XNNPACK has no others."""
    nodes: list[Any] = list(module.graph.nodes)
    for node in nodes:
        if node.target is not _decomposed.dequantize_per_tensor.tensor:
            continue
        quantize: Any = node.args[0]
        source = quantize.args[0]
        with module.graph.inserting_before(quantize):
            chosen = module.graph.call_function(_decomposed.choose_qparams_per_token_asymmetric.default, (source, torch.int8))
            parameters = tuple(module.graph.call_function(operator.getitem, (chosen, i)) for i in range(2))
            rows = module.graph.call_function(_decomposed.quantize_per_token.default, (source, *parameters, *_ROW))
            floats = module.graph.call_function(_decomposed.dequantize_per_token.default, (rows, *parameters, *_ROW, torch.float32))
        floats.meta = dict(node.meta)
        node.replace_all_uses_with(floats)
    for node in reversed(module.graph.nodes):
        # fx holds unknown operators for impure; these have no effect but their result.
        if node.op == "call_function" and not node.users and any(name in str(node.target) for name in ("quantize", "choose_qparams", "getitem")):
            module.graph.erase_node(node)
    module.recompile()
    return module


def rounded_rows(x: Tensor) -> Tensor:
    """What the operators above make of an activation."""
    parameters = _decomposed.choose_qparams_per_token_asymmetric(x, torch.int8)
    rounded: Tensor = _decomposed.dequantize_per_token(_decomposed.quantize_per_token(x, *parameters, *_ROW), *parameters, *_ROW, torch.float32)
    return rounded


def shorten_scales(module: fx.GraphModule) -> fx.GraphModule:
    """Scales of groups as XNNPACK rounds those of linear layers, to bfloat16, in place."""
    for node in module.graph.nodes:
        if node.op == "call_function" and "dequantize_affine" in str(node.target):
            scale: Any = module
            source: Any = node.args[2]
            for part in str(source.target).split("."):
                scale = getattr(scale, part)
            assert isinstance(scale, Tensor), "scales are constants of the graph"
            scale.copy_(scale.bfloat16())
    return module
