"""Tensors of a graph module, by the nodes that read them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["attribute", "constant", "drop_unused", "tensor_of"]


def attribute(module: fx.GraphModule, name: str) -> Any:
    """What stands under a dotted name."""
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part)
    return value


def tensor_of(module: fx.GraphModule, node: fx.Node) -> Tensor:
    """The parameter or buffer that a ``get_attr`` node reads, without its gradient."""
    value = attribute(module, str(node.target))
    assert isinstance(value, Tensor), "weights and their scales are tensors of the module"
    return value.detach()


def constant(module: fx.GraphModule, name: str, value: Tensor) -> fx.Node:
    """Reads a buffer of the module, at the place where nodes are inserted; equal values under one name are one buffer."""
    known = getattr(module, name, None)
    while known is not None and not torch.equal(known, value):
        name += "_"
        known = getattr(module, name, None)
    if known is None:
        module.register_buffer(name, value.clone(memory_format=torch.contiguous_format))
    return module.graph.get_attr(name)


def drop_unused(module: fx.GraphModule) -> None:
    """Let go of tensors that the graph reads under none of their names, such as the float weights behind integers: exporting would store them, too."""
    tensors = dict((*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)))
    used = {id(tensors[str(node.target)]) for node in module.graph.nodes if node.op == "get_attr" and str(node.target) in tensors}
    for name, tensor in tensors.items():
        if id(tensor) not in used:
            owner, _, last = name.rpartition(".")
            delattr(module.get_submodule(owner), last)
