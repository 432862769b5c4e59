"""Rules of ops that treat every element alike, and of those that reduce or normalise over some dimensions."""

from __future__ import annotations

from compressors.graph.dims import ONE, Leaf, leaves, product
from compressors.graph.rules.call import Call, Dims

__all__ = ["batch_norm", "create", "group_norm", "identity", "layer_norm", "pointwise", "pool", "reduction", "softmax"]


def pointwise(call: Call) -> Dims:
    """All tensors broadcast together. Where an addition first ties two widths, a residual stream begins or goes on."""
    operands = [call.known(node) for node in call.tensors()]
    computed = [call.known(node) for node in call.tensors() if node.op != "placeholder"]
    if call.name == "add" and len(computed) == 2:
        for a, b in zip(reversed(computed[0]), reversed(computed[1]), strict=False):
            if a.size == b.size and set(leaves(a)) != set(leaves(b)):
                call.mark("hidden", a)
                call.mark("hidden", b)
    return call.broadcast(operands)


def identity(call: Call) -> Dims:
    """The first tensor."""
    return call.known(call.tensors()[0])


def create(call: Call) -> Dims:
    """A tensor made of nothing. Its sizes are numbers in the code; where one of them meets a width, running the cut model tells whether they follow."""
    return tuple(ONE if size == 1 else Leaf(size, "constant") for size in call.output_shape())


def _selected(call: Call, rank: int) -> set[int]:
    chosen = call.arguments.get("dim")
    chosen = list(range(rank)) if chosen is None or chosen == [] else [chosen] if isinstance(chosen, int) else chosen
    return {d % rank for d in chosen} if rank else set()


def reduction(call: Call) -> Dims:
    """Mean, variance, sum, maximum and the like."""
    dims = call.dims("self")
    reduced = _selected(call, len(dims))
    for d in reduced:
        if call.name in ("mean", "var", "std"):
            call.couple(dims[d], "the model normalises over it")
        elif call.name != "sum":
            call.fix(dims[d], "the model reduces over it")
        call.mark("hidden", dims[d])
    if call.arguments.get("keepdim"):
        return tuple(ONE if d in reduced else dim for d, dim in enumerate(dims))
    return tuple(dim for d, dim in enumerate(dims) if d not in reduced)


def softmax(call: Call) -> Dims:
    """Softmax and cumulative sums: the dimension stays but cannot be cut."""
    dims = call.dims("self")
    for d in _selected(call, len(dims)):
        call.fix(dims[d], "the model normalises over it")
    return dims


def batch_norm(call: Call) -> Dims:
    """Per-channel affine; running statistics and affine parameters follow the channels."""
    dims = call.dims("input")
    for argument in ("weight", "bias", "running_mean", "running_var"):
        other = call.optional_dims(argument)
        if other is not None:
            call.tie(dims[1], other[0])
    call.mark("produced", dims[1])
    return dims


def layer_norm(call: Call) -> Dims:
    """Layer and RMS norm: statistics over the trailing dimensions."""
    dims = call.dims("input")
    count = len(call["normalized_shape"])
    for argument in ("weight", "bias"):
        other = call.optional_dims(argument)
        for mine, theirs in zip(dims[-count:], other or (), strict=False):
            call.tie(mine, theirs)
    for dim in dims[-count:]:
        call.couple(dim, "the model normalises over it")
        call.mark("hidden", dim)
    return dims


def group_norm(call: Call) -> Dims:
    """Statistics over groups of channels: whole groups can go."""
    dims = call.dims("input")
    groups = call["num_groups"]
    if groups == 1:
        call.couple(dims[1], "the model normalises over it")
    else:
        call.tie(dims[1], product((call.width(groups), call.constant(dims[1].size // groups, "the channels of one group"))))
    for argument in ("weight", "bias"):
        other = call.optional_dims(argument)
        if other is not None:
            call.tie(dims[1], other[0])
    return dims


def pool(call: Call) -> Dims | list[Dims]:
    """Pooling and resizing: batch and channels stay, the spatial sizes are new."""
    dims = call.known(call.tensors()[0])
    value = call.node.meta["val"]
    spatial = {"1d": 1, "2d": 2, "3d": 3}.get(call.name.replace("_with_indices", "")[-2:]) or len(dims) - 2
    outputs = [(*dims[:-spatial], *call.constants(call.output_shape(i)[-spatial:])) for i in range(2)] if isinstance(value, (tuple, list)) else []
    return outputs or (*dims[:-spatial], *call.constants(call.output_shape()[-spatial:]))
