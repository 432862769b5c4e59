"""The same model in operators that XNNPACK has kernels for, so that less of it falls back to ExecuTorch's portable kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

__all__ = ["drop_whole_slices", "infer_batches", "keep_pooled_dimensions", "plain_attention", "set_shapes"]

_aten = torch.ops.aten
_MASKED = -1e30
"""Added to a score it leaves a probability of exactly zero, and a row where every key is masked finite."""

_ALL = 2**63 - 1


def set_shapes(module: fx.GraphModule, examples: Sequence[Tensor]) -> fx.GraphModule:
    """Let each node know the shape that it has for these inputs."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.passes.fake_tensor_prop import FakeTensorProp

    FakeTensorProp(module, FakeTensorMode(allow_non_fake_inputs=True)).propagate(*examples)
    return module


def keep_pooled_dimensions(module: fx.GraphModule) -> fx.GraphModule:
    """``mean`` over the pixels of an image keeps its dimensions, in place: the form of XNNPACK's global average pooling."""
    nodes: list[Any] = [node for node in module.graph.nodes if node.target is _aten.mean.dim]
    for node in nodes:
        if (len(node.args) > 2 and node.args[2]) or node.kwargs or "val" not in node.args[0].meta:
            continue
        images = node.args[0].meta["val"]
        if images.ndim != 4 or sorted(d % 4 for d in node.args[1]) != [2, 3]:
            continue
        with module.graph.inserting_before(node):
            pooled = _call(module, _aten.mean.dim, (node.args[0], [2, 3], True))
            flat = _call(module, _aten.view.default, (pooled, [-1, images.shape[1]]))
        _replace(module, node, flat)
    return _recompiled(module)


def drop_whole_slices(module: fx.GraphModule) -> fx.GraphModule:
    """Slices that keep everything are left out, in place: XNNPACK takes none where the batch varies, so that each ends a piece of the graph."""
    nodes: list[Any] = [node for node in module.graph.nodes if node.target is _aten.slice.Tensor]
    for node in nodes:
        given: list[Any] = [*node.args]
        source, _, start, end, step = given + [0, None, None, 1][len(given) - 1 :]
        if not start and (end is None or end == _ALL) and step == 1:
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)
    return _recompiled(module)


def plain_attention(module: fx.GraphModule) -> fx.GraphModule:
    """Scaled dot products of attention as matrix products, sum and softmax, in place.

    ExecuTorch's own decomposition guards against rows where every key is masked, and computes masks in each layer anew, by a dozen operators that XNNPACK
    does not have. Here such a row attends to all keys alike, where torch returns zeros. Left as they are: grouped queries, and attention that is not over
    four dimensions.

    Needs the shapes of ``set_shapes``: all but the first are taken as they are.
    """
    masks: dict[fx.Node, fx.Node] = {}
    nodes: list[Any] = [node for node in module.graph.nodes if node.target is _aten.scaled_dot_product_attention.default]
    for node in nodes:
        names = [argument.name for argument in node.target._schema.arguments]  # noqa: SLF001 - the schema of an operator has no public name
        given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
        query, key, value = (given[name] for name in ("query", "key", "value"))
        shapes: list[Any] = [n.meta["val"].shape if "val" in n.meta else () for n in (query, key, value)]
        mask = given.get("attn_mask")
        if any(len(shape) != 4 for shape in shapes) or given.get("dropout_p") or shapes[0][1] != shapes[1][1] or (mask is not None and "val" not in mask.meta):
            continue
        (_, heads, queries, depth), keys, width = shapes[0], shapes[1][2], shapes[2][3]
        scale = given.get("scale") or 1 / math.sqrt(depth)
        with module.graph.inserting_before(node):
            flat = [_call(module, _aten.reshape.default, (n, [-1, *shape[2:]])) for n, shape in zip((query, key, value), shapes, strict=True)]
            turned = _call(module, _aten.permute.default, (flat[1], [0, 2, 1]))
            scaled = _call(module, _aten.mul.Tensor, (flat[0], _constant(module, torch.tensor([scale]), query)))
            scores = _call(module, _aten.bmm.default, (scaled, turned))
            scores = _call(module, _aten.view.default, (scores, [-1, heads, queries, keys]))
            if given.get("is_causal"):
                below = torch.ones(queries, keys).tril().bool()
                scores = _call(module, _aten.add.Tensor, (scores, _constant(module, torch.where(below, 0.0, _MASKED), query)))
            elif mask is not None:
                if mask not in masks:
                    with module.graph.inserting_after(mask):
                        boolean = mask.meta["val"].dtype == torch.bool
                        masks[mask] = _call(module, *((_aten.where.Scalar, (mask, 0.0, _MASKED)) if boolean else (_aten.clamp.default, (mask, _MASKED))))
                scores = _call(module, _aten.add.Tensor, (scores, masks[mask]))
            shares = _call(module, _aten.softmax.int, (scores, -1))
            shares = _call(module, _aten.view.default, (shares, [-1, queries, keys]))
            mixed = _call(module, _aten.bmm.default, (shares, flat[2]))
            mixed = _call(module, _aten.view.default, (mixed, [-1, heads, queries, width]))
        _replace(module, node, mixed)
    return _recompiled(module)


def infer_batches(module: fx.GraphModule) -> Any:
    """Reshapes whose only dynamic dimension is the batch let it be inferred, in place: XNNPACK takes no computed one. A pass of ExecuTorch's edge dialect."""
    from torch.fx.passes.infra.pass_base import PassResult

    changed = False
    nodes: list[Any] = list(module.graph.nodes)
    for node in nodes:
        if node.op != "call_function" or "view_copy" not in str(node.target):
            continue
        shape = list(node.args[1])
        dynamic = [i for i, d in enumerate(shape) if not isinstance(d, int)]
        if len(dynamic) != 1:
            continue
        if -1 in shape:
            known = node.meta["val"].shape[shape.index(-1)]
            if not isinstance(known, int):
                continue
            shape[shape.index(-1)] = known
        shape[dynamic[0]] = -1
        node.args = (node.args[0], shape)
        changed = True
    module.graph.eliminate_dead_code()
    module.recompile()
    return PassResult(module, changed)


def _call(module: fx.GraphModule, target: Any, arguments: tuple[Any, ...]) -> fx.Node:
    node = module.graph.call_function(target, arguments)
    node.meta["val"] = target(*(a.meta["val"] if isinstance(a, fx.Node) else a for a in arguments))
    return node


def _constant(module: fx.GraphModule, value: Tensor, like: fx.Node) -> fx.Node:
    name = f"executorch_constant_{sum(1 for name, _ in module.named_buffers() if name.startswith('executorch_constant_'))}"
    module.register_buffer(name, value, persistent=False)
    node = module.graph.get_attr(name)
    node.meta["val"] = like.meta["val"].fake_mode.from_tensor(value)
    return node


def _replace(module: fx.GraphModule, old: fx.Node, new: fx.Node) -> None:
    old.replace_all_uses_with(new)
    module.graph.erase_node(old)


def _recompiled(module: fx.GraphModule) -> fx.GraphModule:
    module.graph.eliminate_dead_code()
    module.recompile()
    return module
