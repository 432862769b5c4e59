"""What each ATen op does to dimensions, and the class of work it is. One table: op name to rule and class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._ops import OpOverload

from compressors.graph.rules import contraction, elementwise, layout
from compressors.graph.rules.call import Call, Dims, Mark

__all__ = ["Call", "Dims", "Mark", "Rule", "op_name", "rule_of", "schema_of"]

Rule = Callable[[Call], "Dims | list[Dims]"]

_VIEWS: dict[str, Rule] = {
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view", "_reshape_alias"), layout.reshape),
    **dict.fromkeys(("transpose", "t", "swapaxes", "swapdims"), layout.transpose),
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), layout.split_),
    **dict.fromkeys(
        ("alias", "detach", "contiguous", "to", "lift_fresh_copy", "dropout", "feature_dropout", "clone", "_to_copy", "type_as"), elementwise.identity
    ),
    "permute": layout.permute,
    "unsqueeze": layout.unsqueeze,
    "squeeze": layout.squeeze,
    "expand": layout.expand,
    "expand_as": layout.expand,
    "select": layout.select,
    "slice": layout.slice_,
    "unbind": layout.unbind,
}
_MOVEMENT: dict[str, Rule] = {
    "cat": layout.concatenate,
    "concat": layout.concatenate,
    "stack": layout.stack,
    "pad": layout.pad,
    "constant_pad_nd": layout.pad,
    "repeat": layout.repeat,
    "flip": layout.flip,
    "roll": layout.flip,
    "tril": layout.diagonal_mask,
    "triu": layout.diagonal_mask,
    "index": layout.index,
    "gather": layout.gather,
    "index_select": layout.gather,
    **dict.fromkeys(
        (
            *("arange", "zeros", "ones", "full", "empty", "scalar_tensor", "eye", "linspace"),
            *("new_zeros", "new_ones", "new_full", "new_empty"),
        ),
        elementwise.create,
    ),
    # The shape of another tensor, none of its values: ties it like an elementwise op would.
    **dict.fromkeys(("zeros_like", "ones_like", "full_like", "empty_like"), elementwise.identity),
}
_CONTRACTIONS: dict[str, tuple[Rule, str]] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), (contraction.convolution, "conv")),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), (contraction.convolution_transpose, "conv")),
    **dict.fromkeys(("mm", "bmm", "matmul", "addmm", "baddbmm", "mv"), (contraction.matmul, "matmul")),
    **dict.fromkeys(("gru", "lstm", "rnn_tanh", "rnn_relu"), (contraction.recurrent, "gemm")),
    "linear": (contraction.linear, "gemm"),
    "scaled_dot_product_attention": (contraction.attention, "attention"),
    "embedding": (contraction.embedding, "embedding"),
}
_NORMALIZATIONS: dict[str, Rule] = {
    "batch_norm": elementwise.batch_norm,
    "layer_norm": elementwise.layer_norm,
    "rms_norm": elementwise.layer_norm,
    "group_norm": elementwise.group_norm,
}
_POOLS = (
    *(f"{adaptive}{kind}_pool{n}d" for adaptive in ("", "adaptive_") for kind in ("avg", "max") for n in (1, 2, 3)),
    *("max_pool2d_with_indices", "max_pool3d_with_indices"),
    *("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d"),
)
_REDUCTIONS = ("mean", "sum", "amax", "amin", "max", "min", "any", "all", "prod", "var", "std", "argmax", "argmin", "norm", "linalg_vector_norm", "logsumexp")
_SOFTMAXES = ("softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum", "cumprod", "safe_softmax", "sort", "topk")
_ACTIVATIONS = frozenset(
    (
        *("relu", "relu6", "gelu", "silu", "tanh", "sigmoid", "hardtanh", "hardswish", "hardsigmoid", "leaky_relu"),
        *("elu", "selu", "celu", "mish", "softplus", "prelu", "clamp", "clamp_min", "clamp_max"),
    )
)
_POINTWISE = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "pow", "where", "masked_fill", "__and__", "__or__", "__xor__", "__iadd__", "rsub", "logical_and", "logical_or"),
        *(
            "floor_divide",
            "remainder",
            "bitwise_and",
            "bitwise_or",
            "dropout",
            "square",
            "log1p",
            "lerp",
            "prelu",
            "relu6",
            "selu",
            "celu",
            "pow",
            "reciprocal",
        ),
    )
)


def op_name(op: OpOverload) -> str:
    """``aten.add_.Tensor`` as ``add``."""
    name = str(op).split(".")[1]
    return name if name.endswith("__") else name.rstrip("_")


def schema_of(op: OpOverload) -> torch.FunctionSchema:
    """Names, defaults and aliasing of an op's arguments."""
    return op._schema  # noqa: SLF001  (torch offers the schema under no other name)


def rule_of(op: OpOverload) -> tuple[Rule | None, str]:
    """The rule and the class of an op; no rule where the op is not known: whatever enters it is then fixed.

    A view's class may become ``movement`` and a convolution's class is refined once shapes are known.
    """
    name = op_name(op)
    if op.namespace != "aten":
        return None, "elementwise"
    if name in _CONTRACTIONS:
        return _CONTRACTIONS[name]
    for table, op_class in ((_VIEWS, "view"), (_MOVEMENT, "movement"), (_NORMALIZATIONS, "normalization")):
        if name in table:
            return table[name], op_class
    if name in _POOLS:
        return elementwise.pool, "pooling"
    if name in _SOFTMAXES:
        return (None if name in ("sort", "topk") else elementwise.softmax), "softmax"
    if name in _REDUCTIONS and "other" not in (argument.name for argument in schema_of(op).arguments):
        multiple = len(schema_of(op).returns) > 1
        return (None if multiple else elementwise.reduction), "reduction"
    if name in _POINTWISE or name in _ACTIVATIONS or torch.Tag.pointwise in op.tags:
        return elementwise.pointwise, "activation" if name in _ACTIVATIONS else "elementwise"
    return None, "elementwise"
