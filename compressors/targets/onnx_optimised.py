"""What ONNX Runtime makes of a model file: which products run in float behind a conversion, and how wide layers are."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

__all__ = ["FLOAT_PRODUCTS", "FloatProduct", "Optimised", "layer_widths", "optimised"]

FLOAT_PRODUCTS = frozenset({"Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"})
"""Operators that multiply weights or activations in float."""
_INTEGER = {
    "ConvInteger",
    "ConvIntegerToFloat",
    "DynamicQuantizeMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "QGemm",
    "QLinearConv",
    "QLinearMatMul",
}
_PASSED = {"Cast", "Flatten", "Mul", "Reshape", "Squeeze", "Sub", "Transpose", "Unsqueeze"}
_WEIGHTED = FLOAT_PRODUCTS | _INTEGER


@dataclass(frozen=True, slots=True)
class FloatProduct:
    """A convolution or matrix product in float that reads something converted at run time.

    Attributes:
        operator, name: of it; the name is the layer's where the file still says so.
        weight: its weight is converted, by these operators in front of it, such as ``DequantizeLinear`` or ``Cast + Mul``; empty where it is not.
        activation: the same of its activation.
    """

    operator: str
    name: str
    weight: str
    activation: str


@dataclass(frozen=True, slots=True)
class Optimised:
    """The optimised graph, read.

    Attributes:
        operators: how many of each run.
        integer: how many products run on integers or packed weights.
        float_products: in float behind a conversion, in their order.
    """

    operators: Counter[str]
    integer: int
    float_products: tuple[FloatProduct, ...]


def optimised(path: Path) -> Optimised:
    """Load a model file in ONNX Runtime's CPU provider and read the graph that it then runs."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    producers = {output: node for node in graph.node for output in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type not in FLOAT_PRODUCTS:
            continue
        activation, weight = (_conversion(name, producers, constants) for name in node.input[:2])
        if activation or weight:
            found.append(FloatProduct(node.op_type, _layer(node), weight, activation))
    return Optimised(Counter(node.op_type for node in graph.node), sum(node.op_type in _INTEGER for node in graph.node), tuple(found))


def layer_widths(path: Path) -> list[tuple[str, int, int]]:
    """Name, inputs and outputs of each convolution and matrix product with a stored weight, in the order of the graph. An external data file is not read."""
    graph = onnx.load(path, load_external_data=False).graph
    producers = {output: node for node in graph.node for output in node.output}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type not in _WEIGHTED or len(node.input) < 2:
            continue
        shape = _stored_shape(node.input[1], producers, shapes)
        if node.op_type == "MatMulNBits":
            sizes = {a.name: a.i for a in node.attribute}
            found.append((_layer(node), sizes["K"], sizes["N"]))
        elif shape is not None and len(shape) > 1:
            groups = next((a.i for a in node.attribute if a.name == "group"), 1)
            turned = node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute)
            ends = (shape[1] * groups, shape[0]) if "Conv" in node.op_type or turned else (shape[-2], shape[-1])
            found.append((_layer(node), *ends))
    return found


def _conversion(name: str, producers: Mapping[str, onnx.NodeProto], constants: set[str]) -> str:
    """The operators that convert a tensor, nearest last; empty where nothing does. A multiplication is one only behind a cast of something stored."""
    chain: list[str] = []
    node = producers.get(name)
    while node is not None and (node.op_type in _PASSED or node.op_type == "DequantizeLinear"):
        if node.op_type in ("Cast", "DequantizeLinear", "Mul"):
            chain.append(node.op_type)
        if node.op_type == "DequantizeLinear":
            return " + ".join(reversed(chain))
        name = node.input[0]
        node = producers.get(name)
    return " + ".join(reversed(chain)) if name in constants and "Cast" in chain else ""


def _stored_shape(name: str, producers: Mapping[str, onnx.NodeProto], shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """Of the weight behind ``name``, as the product sees it: a transposition in between turns it."""
    turned = False
    while name not in shapes:
        node = producers.get(name)
        if node is None or not (node.op_type in _PASSED or node.op_type == "DequantizeLinear"):
            return None
        turned ^= node.op_type == "Transpose"
        name = node.input[0]
    return shapes[name][::-1] if turned and len(shapes[name]) == 2 else shapes[name]


def _layer(node: onnx.NodeProto) -> str:
    """The module's name where a weight or bias still carries it, else the node's."""
    named = next((name for name in node.input if name.startswith("model.") and name.endswith((".bias", ".weight"))), "")
    return named.removeprefix("model.").rpartition(".")[0] or node.name or node.output[0]
