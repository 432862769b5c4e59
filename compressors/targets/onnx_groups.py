"""Weights in groups, with the arithmetic of ONNX Runtime's ``MatMulNBits`` and ``GatherBlockQuantized``.

Integers are stored unsigned and packed, the lowest bits first, one scale (and where they are asymmetric one zero point) for each group of inputs. A layer
whose activations stay float unpacks its weight by plain operators, which ONNX Runtime folds when it loads the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from compressors.targets.graph_tensors import constant, tensor_of

if TYPE_CHECKING:
    import onnx

__all__ = ["expand_dense", "group_embedding", "group_linear", "group_translations", "lower_groups", "packed", "rounded_groups", "unpacked"]

_decomposed = torch.ops.quantized_decomposed
_aten = torch.ops.aten
_DENSE = "UnpackGroups"


def packed(values: Tensor, bits: int) -> Tensor:
    """Unsigned integers ``[..., n]`` of ``bits`` bits as bytes ``[..., ceil(n * bits / 8)]``, the lowest bits first; what is missing is zero."""
    each = 8 // bits
    padded = torch.nn.functional.pad(values, (0, -values.shape[-1] % each)).to(torch.int32)
    shifts = torch.arange(each, dtype=torch.int32) * bits
    return (padded.reshape(*padded.shape[:-1], -1, each) << shifts).sum(-1).to(torch.uint8)


def unpacked(stored: Tensor, bits: int, count: int) -> Tensor:
    """The reverse: ``count`` integers as floats."""
    shifts = torch.arange(8 // bits, dtype=torch.uint8) * bits
    values: Tensor = (stored[..., None] >> shifts) & (2**bits - 1)
    return values.flatten(-2)[..., :count].float()


def _values(weight: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int) -> Tensor:
    """Dequantized rows ``[..., inputs]`` of packed ones ``[..., bytes]``."""
    integers = unpacked(weight, bits, weight.shape[-1] * 8 // bits)
    groups = scale.shape[-1]
    zero: Any = 2 ** (bits - 1) if zero_point is None else unpacked(zero_point, bits, groups)[..., None]
    values: Tensor = (integers.reshape(*integers.shape[:-1], groups, -1) - zero) * scale[..., None]
    return values.flatten(-2)


def rounded_groups(x: Tensor, group: int) -> Tensor:
    """``x`` ``[..., inputs]`` rounded to 8-bit integers, one scale for each row and group, and back to floats."""
    rows = x.reshape(*x.shape[:-1], -1, group)
    step = rows.abs().amax(-1, keepdim=True) / 127
    rounded: Tensor = (rows / step.clamp(min=torch.finfo(torch.float32).tiny)).round() * step
    return rounded.flatten(-2)


@torch.library.custom_op("compareto::group_embedding", mutates_args=())
def group_embedding(indices: Tensor, weight: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int) -> Tensor:
    """Rows of a table, dequantized: ``indices`` of any shape, weight ``[rows, bytes]``, scale ``[rows, groups]``, zero points packed or None."""
    return _values(weight[indices], scale[indices], None if zero_point is None else zero_point[indices], bits)


@group_embedding.register_fake
def _(indices: Tensor, weight: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int) -> Tensor:  # noqa: ARG001 - the operator's signature
    return scale.new_empty((*indices.shape, weight.shape[1] * 8 // bits))


@torch.library.custom_op("compareto::group_weight", mutates_args=())
def group_weight(weight: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int) -> Tensor:
    """The whole table as floats."""
    return _values(weight, scale, zero_point, bits)


@group_weight.register_fake
def _(weight: Tensor, scale: Tensor, zero_point: Tensor | None, bits: int) -> Tensor:  # noqa: ARG001 - the operator's signature
    return scale.new_empty((weight.shape[0], weight.shape[1] * 8 // bits))


@torch.library.custom_op("compareto::group_linear", mutates_args=())
def group_linear(x: Tensor, weight: Tensor, scale: Tensor, zero_point: Tensor | None, bias: Tensor | None, bits: int) -> Tensor:
    """``x`` ``[..., inputs]`` in 8-bit integers, one scale for each row and group, times packed weights: ``MatMulNBits`` with ``accuracy_level`` 4."""
    return torch.nn.functional.linear(rounded_groups(x, x.shape[-1] // scale.shape[1]), _values(weight, scale, zero_point, bits), bias)


@group_linear.register_fake
def _(x: Tensor, weight: Tensor, scale: Tensor, zero_point: Tensor | None, bias: Tensor | None, bits: int) -> Tensor:  # noqa: ARG001 - the operator's signature
    return x.new_empty((*x.shape[:-1], weight.shape[0]))


def lower_groups(module: fx.GraphModule) -> fx.GraphModule:
    """Replace dequantized groups of a converted module by the operators above, in place."""
    graph, ops = module.graph, torch.ops.compareto
    for node in [n for n in graph.nodes if n.target is torch.ops.torchao.dequantize_affine and n.args[0].op == "get_attr"]:
        integers, scale, zero = tensor_of(module, node.args[0]), node.args[2], tensor_of(module, node.args[3])
        lowest, highest = int(node.args[5]), int(node.args[6])
        bits = 8 if highest > 7 else 4 if highest > 1 else 2
        half = 2 ** (bits - 1)
        symmetric = lowest == -highest
        with graph.inserting_before(node):
            name = str(node.args[0].target)
            stored = constant(module, f"{name}_packed", packed(integers.int() + half, bits))
            zeros = None if symmetric else constant(module, f"{name}_zeros", packed(zero.int() + half, bits))
        for user in list(node.users):
            with graph.inserting_before(user):
                if user.target is _aten.embedding.default:
                    new = graph.call_function(ops.group_embedding.default, (user.args[1], stored, scale, zeros, bits))
                elif user.target is _aten.linear.default and user.args[0].target is _decomposed.dequantize_per_tensor.tensor:
                    # Ranges for the whole tensor give way to one for each row and group.
                    bias = user.args[2] if len(user.args) > 2 else None
                    x = user.args[0].args[0].args[0]
                    new = graph.call_function(ops.group_linear.default, (x, stored, scale, zeros, bias, bits))
                else:
                    dense = graph.call_function(ops.group_weight.default, (stored, scale, zeros, bits))
                    user.replace_input_with(node, dense)
                    continue
            new.meta = {key: value for key, value in user.meta.items() if key in ("val", "nn_module_stack", "stack_trace")}
            user.replace_all_uses_with(new)
            graph.erase_node(user)
        graph.erase_node(node)
    graph.eliminate_dead_code()
    module.recompile()
    return module


def group_translations() -> dict[Any, Callable[..., Any]]:
    """How ``torch.onnx.export`` writes the operators above."""
    from onnxscript.onnx_opset import opset21 as op

    gather = _operator("GatherBlockQuantized", ["data", "indices", "scales"], ["gather_axis", "quantize_axis", "bits", "block_size"])
    product_of = _operator("MatMulNBits", ["A", "B", "scales"], ["K", "N", "bits", "block_size", "accuracy_level"])

    # The exporter would fold what ONNX Runtime is to fold: a marker that stands for it (see ``expand_dense``).
    unpack = _operator(_DENSE, ["data", "scales"], ["bits"])

    def size(scale: Any, weight: Any, bits: int) -> int:
        return int(weight.shape[1]) * 8 // bits // int(scale.shape[1])

    def embedding(indices: Any, weight: Any, scale: Any, zero_point: Any, bits: int) -> Any:
        return gather(weight, indices, scale, zero_point, gather_axis=0, quantize_axis=1, bits=bits, block_size=size(scale, weight, bits))

    def dense(weight: Any, scale: Any, zero_point: Any, bits: int) -> Any:
        return unpack(weight, scale, zero_point, bits=bits)

    def linear(x: Any, weight: Any, scale: Any, zero_point: Any, bias: Any, bits: int) -> Any:
        group, rows, groups = size(scale, weight, bits), int(weight.shape[0]), int(scale.shape[1])
        blocks = op.Reshape(weight, op.Constant(value_ints=[rows, groups, group * bits // 8]))
        product = product_of(x, blocks, scale, zero_point, K=groups * group, N=rows, bits=bits, block_size=group, accuracy_level=4)
        return product if bias is None else op.Add(product, bias)

    ops = torch.ops.compareto
    return {ops.group_embedding.default: embedding, ops.group_weight.default: dense, ops.group_linear.default: linear}


def expand_dense(graph: onnx.GraphProto) -> None:
    """Replace the marker of weights that are unpacked at load by plain operators, in place."""
    from onnx import TensorProto, helper, numpy_helper

    arrays = {i.name: i for i in graph.initializer}
    for at, node in reversed(list(enumerate(graph.node))):
        if node.op_type != _DENSE:
            continue
        bits, (stored, scale), end = node.attribute[0].i, node.input[:2], node.output[0]
        rows, groups = arrays[scale].dims
        new: list[onnx.NodeProto] = []

        def add(kind: str, *inputs: str | list[int], new: list[onnx.NodeProto] = new, end: str = end, **attributes: Any) -> str:
            names = []
            for value in inputs:
                if isinstance(value, list):
                    new.append(helper.make_node("Constant", [], [f"{end}.{len(new)}"], value_ints=value))
                names.append(value if isinstance(value, str) else f"{end}.{len(new) - 1}")
            new.append(helper.make_node(kind, names, [f"{end}.{len(new)}"], **attributes))
            return f"{end}.{len(new) - 1}"

        def unpacked_to(name: str, shape: list[int], bits: int = bits, add: Any = add) -> str:
            if bits < 8:
                shifts = add("Cast", list(range(0, 8, bits)), to=TensorProto.UINT8)
                mask = add("Cast", [2**bits - 1], to=TensorProto.UINT8)
                name = add("BitwiseAnd", add("BitShift", add("Unsqueeze", name, [2]), shifts, direction="RIGHT"), mask)
            return str(add("Cast", add("Reshape", name, shape), to=TensorProto.FLOAT))

        values = unpacked_to(stored, [rows, groups, arrays[stored].dims[1] * 8 // bits // groups])
        if len(node.input) > 2 and node.input[2]:
            zeros = add("Unsqueeze", add("Slice", unpacked_to(node.input[2], [rows, -1]), [0], [groups], [1]), [2])
        else:
            zeros = f"{end}.half"
            new.append(helper.make_node("Constant", [], [zeros], value=numpy_helper.from_array(np.float32(2 ** (bits - 1)))))
        scaled = add("Mul", add("Sub", values, zeros), add("Unsqueeze", scale, [2]))
        add("Reshape", scaled, [rows, -1])
        new[-1].output[0] = end
        del graph.node[at]
        for i, made in enumerate(new):
            graph.node.insert(at + i, made)


def _operator(name: str, inputs: list[str], attributes: list[str]) -> Any:
    """An operator of ONNX Runtime's own domain, whose schema the onnx package does not know; zero points are its last, optional input."""
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    parameter, option = OpSchema.FormalParameter, OpSchema.FormalParameterOption
    types = [(f"T{i}", [f"tensor({t})"], "") for i, t in enumerate(["float", "uint8", "int64"])]
    kinds = {"A": "T0", "scales": "T0", "indices": "T2"}
    schema = OpSchema(
        name,
        "com.microsoft",
        1,
        inputs=[*(parameter(i, kinds.get(i, "T1")) for i in inputs), parameter("zero_points", "T1", param_option=option.Optional)],
        outputs=[parameter("Y", "T0")],
        type_constraints=types,
        attributes=[OpSchema.Attribute(a, OpSchema.AttrType.INT, required=True) for a in attributes],
    )
    return Op(Opset("com.microsoft", 1), name, schema)
