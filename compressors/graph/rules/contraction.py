"""Rules of ops that multiply and accumulate: linear layers, convolutions, matrix products, attention; and embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from compressors.graph.dims import ONE, Dimension, concat, leaves, product
from compressors.graph.rules.call import Call, Dims

__all__ = ["attention", "convolution", "convolution_transpose", "embedding", "linear", "matmul", "recurrent"]


def linear(call: Call) -> Dims:
    """``input @ weight.T + bias``."""
    inputs, weight, bias = call.dims("input"), call.dims("weight"), call.optional_dims("bias")
    call.tie(inputs[-1], weight[1])
    if bias is not None:
        call.tie(weight[0], bias[0])
    output = (*inputs[:-1], weight[0])
    call.macs.append((*output, weight[1]))
    call.mark("produced", weight[0])
    call.mark("ffn", weight[0])
    return output


def convolution(call: Call) -> Dims:
    """Convolutions; a depthwise one ties its output to its input, a grouped one by whole groups."""
    inputs, weight, bias = call.dims("input"), call.dims("weight"), call.optional_dims("bias")
    groups = call["groups"]
    spatial = len(weight) - 2
    channels = inputs[-spatial - 1]
    if groups == 1:
        call.tie(channels, weight[1])
    elif groups == channels.size:
        call.tie(weight[0], product((channels, call.constant(weight[0].size // groups, "the channel multiplier"))))
    else:
        # Whole groups can go; the channels of a group stay together.
        whole = call.width(groups)
        call.fix(weight[1], "the channels of one group")
        call.tie(channels, product((whole, weight[1])))
        call.tie(weight[0], product((whole, call.constant(weight[0].size // groups, "the channels of one group"))))
    if bias is not None:
        call.tie(weight[0], bias[0])
    output = (*inputs[: -spatial - 1], weight[0], *call.constants(call.output_shape()[-spatial:]))
    call.macs.append((*output, *weight[1:]))
    call.mark("produced", weight[0])
    call.mark("channels", weight[0])
    return output


def convolution_transpose(call: Call) -> Dims:
    """Transposed convolutions: the weight is ``[in, out / groups, ...]``."""
    inputs, weight, bias = call.dims("input"), call.dims("weight"), call.optional_dims("bias")
    spatial = len(weight) - 2
    channels = inputs[-spatial - 1]
    call.tie(channels, weight[0])
    produced = weight[1]
    if call["groups"] != 1:
        call.fix(channels, "a grouped convolution")
        call.fix(weight[1], "a grouped convolution")
        produced = call.constant(call.output_shape()[-spatial - 1], "a grouped convolution")
    if bias is not None:
        call.tie(produced, bias[0])
    call.macs.append((*inputs, *weight[1:]))
    call.mark("produced", produced)
    call.mark("channels", produced)
    return (*inputs[: -spatial - 1], produced, *call.constants(call.output_shape()[-spatial:]))


def matmul(call: Call) -> Dims:
    """``mm``, ``bmm``, ``matmul``, ``addmm`` and ``baddbmm``."""
    names = ("mat1", "mat2") if "mat1" in call.arguments else ("batch1", "batch2") if "batch1" in call.arguments else ("self", None)
    a = call.dims(names[0])
    b = call.dims(names[1] or ("mat2" if "mat2" in call.arguments else "other"))
    left: Sequence[Dimension] = a[-2:-1]
    right: Sequence[Dimension] = b[-1:] if len(b) > 1 else ()
    inner = b[-2] if len(b) > 1 else b[-1]
    call.tie(a[-1], inner)
    batch = call.broadcast([a[:-2], b[:-2]])
    output = (*batch, *left, *right)
    call.macs.append((*output, inner))
    if any(leaf.kind == "width" for dim in batch for leaf in leaves(dim)):
        # Attention written out: what is batched over beside the inputs' sizes are heads.
        call.mark("heads", batch[-1])
        for dim in (inner, *left, *right):
            if any(leaf.kind == "width" for leaf in leaves(dim)):
                call.mark("head_dim", dim)
                call.fix(dim, "the size of an attention head")
    if len(b) == 2:
        call.mark("produced", b[-1])
        call.mark("ffn", b[-1])
    if "mat1" in call.arguments or "batch1" in call.arguments:
        return call.broadcast([output, call.dims("self")])
    return output


def attention(call: Call) -> Dims:
    """Scaled dot-product attention; several query heads may share one key head."""
    query, key, value = call.dims("query"), call.dims("key"), call.dims("value")
    call.tie(query[-1], key[-1])
    call.tie(key[-2], value[-2])
    for a, b in zip(key[:-2], value[:-2], strict=True):
        call.tie(a, b)
    for a, b in zip(query[:-3], key[:-3], strict=True):
        call.tie(a, b)
    if len(query) > 3:
        repeats = query[-3].size // key[-3].size
        call.tie(query[-3], product((key[-3], call.constant(repeats, "query heads of one key head"))) if repeats > 1 else key[-3])
        call.mark("heads", query[-3])
    for dim in (query[-1], value[-1]):
        call.mark("head_dim", dim)
        call.fix(dim, "the size of an attention head")
    mask = call.optional_dims("attn_mask")
    if mask is not None:
        call.broadcast([mask, (*query[:-1], key[-2])])
    call.macs.append((*query[:-1], key[-2], query[-1]))
    call.macs.append((*query[:-1], key[-2], value[-1]))
    return (*query[:-1], value[-1])


def recurrent(call: Call) -> list[Dims]:
    """GRU, LSTM and plain recurrent layers: one hidden width for all layers, as the module has; the rows of a weight are its gates, one after another."""
    inputs, states = call.dims("input"), call["hx"]
    gates = {"lstm": 4, "gru": 3}.get(call.name, 1)
    biases, directions = bool(call["has_biases"]), 2 if call["bidirectional"] else 1
    state = [call.known(node) for node in (states if isinstance(states, (tuple, list)) else [states])]
    hidden = state[0][-1]
    for dims in state:
        call.tie(dims[-1], hidden)
    call.mark("produced", hidden)
    call.mark("hidden", hidden)
    entering = inputs[-1]
    per_cell = 4 if biases else 2
    params = [call.known(node) for node in call["params"]]
    if len(params) != call["num_layers"] * directions * per_cell:
        return _opaque_recurrent(call, params)
    for layer in range(call["num_layers"]):
        for direction in range(directions):
            first = (layer * directions + direction) * per_cell
            rows = concat([hidden] * gates)
            for weight, columns in zip(params[first : first + 2], (entering, hidden), strict=True):
                call.tie(weight[0], rows)
                call.tie(weight[1], columns)
                call.macs.append((*inputs[:-1], *weight))
            for bias in params[first + 2 : first + per_cell]:
                call.tie(bias[0], rows)
        entering = concat([hidden] * directions)
    return [(*inputs[:-1], entering), *state]


def _opaque_recurrent(call: Call, params: Sequence[Dims]) -> list[Dims]:
    """An LSTM with projections."""
    for node in call.tensors():
        for dim in call.known(node):
            call.fix(dim, "a recurrent layer with projections")
    call.macs += [(*call.dims("input")[:-1], *weight) for weight in params if len(weight) == 2]
    return [call.constants(call.output_shape(i), "a recurrent layer with projections") for i in range(len(call.node.meta["val"]))]


def embedding(call: Call) -> Dims:
    """Rows of a table."""
    weight = call.dims("weight")
    call.fix(weight[0], "inputs index its rows")
    call.mark("vocabulary", weight[0])
    call.mark("produced", weight[0])
    call.mark("produced", weight[1])
    return (*call.dims("indices"), weight[1] if weight[1].size != 1 else ONE)
