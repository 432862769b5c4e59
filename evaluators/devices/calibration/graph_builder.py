"""ONNX graphs, node by node, with quantize and dequantize placed where ONNX Runtime fuses them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["GraphBuilder"]

_OPSET, _IR = 21, 10


class GraphBuilder:
    """Builds one chain. In ``integer`` mode every value between kernels is an 8-bit integer."""

    def __init__(self, rng: np.random.Generator, *, integer: bool) -> None:
        self._rng = rng
        self._integer = integer
        self._nodes: list[Any] = []
        self._initialisers: list[Any] = []
        self._inputs: list[Any] = []
        self._feed: dict[str, NDArray[Any]] = {}
        self._scale = self._add(np.array(0.02, dtype=np.float32))
        # Unsigned, because ONNX Runtime's conversion from signed breaks fusions where a value has several readers; and zero is the
        # lowest integer, as behind a ReLU: only then is the ReLU fused.
        self._zero = self._add(np.array(0, dtype=np.uint8))
        self._symmetric = self._add(np.array(0, dtype=np.int8))

    def input(self, shape: tuple[int, ...]) -> str:
        """A graph input of floats; returns its value, quantized in integer mode."""
        self._inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
        self._feed["x"] = self._rng.standard_normal(shape).astype(np.float32)
        return self._quantized("x") if self._integer else "x"

    def indices(self, count: int, below: int) -> str:
        """A graph input of indices."""
        self._inputs.append(helper.make_tensor_value_info("ids", TensorProto.INT64, (1, count)))
        self._feed["ids"] = self._rng.integers(0, below, (1, count))
        return "ids"

    def constant(self, shape: tuple[int, ...]) -> str:
        """A random float constant."""
        return self._add((self._rng.standard_normal(shape) * 0.05).astype(np.float32))

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        """A node with one output."""
        if op == "ReduceMean":
            inputs = [*inputs, self._add(np.array(attributes.pop("axes"), dtype=np.int64))]
        name = f"v{len(self._nodes)}"
        domain = "com.microsoft" if op == "MatMulNBits" else ""
        self._nodes.append(helper.make_node(op, inputs, [name], domain=domain, **attributes))
        return name

    def convolution(self, value: str, cin: int, cout: int, kernel: int, stride: int, groups: int) -> str:
        """Convolution and ReLU."""
        weight = self._weight((cout, cin // groups, kernel, kernel), axis=0)
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4, "group": groups}
        bias = self._bias(cout)
        out = self.node("Relu", [self.node("Conv", [value, weight, bias], **attributes)])
        return self._quantized(out) if self._integer else out

    def product(self, value: str, depth: int, width: int) -> str:
        """Matrix product with a constant; of floats, and a bias, whose addition is another node, as in every linear layer."""
        out = self.node("MatMul", [value, self._weight((depth, width), axis=1)])
        return self._quantized(out) if self._integer else self.add(out, self.constant((width,)))

    def dynamic_product(self, value: str, depth: int, width: int) -> str:
        """Matrix product whose input is quantized at run time, to floats again, and a bias."""
        name = f"d{len(self._nodes)}"
        self._nodes.append(helper.make_node("DynamicQuantizeLinear", [value], [name, f"{name}s", f"{name}z"]))
        weight = self._add(self._rng.integers(-127, 127, (depth, width)).astype(np.int8))
        product = self.node("Cast", [self.node("MatMulInteger", [name, weight, f"{name}z", self._symmetric])], to=TensorProto.FLOAT)
        return self.add(self.node("Mul", [product, self.node("Mul", [f"{name}s", self._scale])]), self.constant((width,)))

    def packed_product(self, value: str, depth: int, width: int) -> str:
        """Matrix product with 4-bit weights in blocks of 32 and 8-bit arithmetic, as our files ask for."""
        weight = self._add(self._rng.integers(0, 256, (width, depth // 32, 16)).astype(np.uint8))
        scales = self._add(np.full(width * (depth // 32), 0.01, dtype=np.float32))
        return self.node("MatMulNBits", [value, weight, scales], K=depth, N=width, bits=4, block_size=32, accuracy_level=4)

    def add(self, value: str, other: str) -> str:
        """Sum of two values."""
        out = self.node("Add", [value, other])
        return self._quantized(out) if self._integer else out

    def pool(self, value: str) -> str:
        """Maximum over 2 x 2, half of the size."""
        out = self.node("MaxPool", [value], kernel_shape=[2, 2], strides=[2, 2])
        return self._quantized(out) if self._integer else out

    def quantized_and_back(self, value: str) -> str:
        """Quantize, dequantize."""
        return self._quantized(value)

    def finish(self, value: str) -> tuple[bytes, dict[str, NDArray[Any]]]:
        """The serialised model and a feed."""
        self._nodes.append(helper.make_node("Identity", [value], ["y"]))
        output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        graph = helper.make_graph(self._nodes, "probe", self._inputs, [output], self._initialisers)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("com.microsoft", 1)]
        model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=_IR)
        return model.SerializeToString(), self._feed

    def _add(self, array: NDArray[Any]) -> str:
        name = f"c{len(self._initialisers)}"
        self._initialisers.append(numpy_helper.from_array(array, name))
        return name

    def _weight(self, shape: tuple[int, ...], axis: int) -> str:
        if not self._integer:
            return self.constant(shape)
        weight = self._add(self._rng.integers(-127, 127, shape).astype(np.int8))
        scales = self._add(np.full(shape[axis], 0.01, dtype=np.float32))
        zeros = self._add(np.zeros(shape[axis], dtype=np.int8))
        return self.node("DequantizeLinear", [weight, scales, zeros], axis=axis)

    def _bias(self, channels: int) -> str:
        if not self._integer:
            return self.constant((channels,))
        bias = self._add(self._rng.integers(-100, 100, channels).astype(np.int32))
        scales = self._add(np.full(channels, 0.02 * 0.01, dtype=np.float32))
        zeros = self._add(np.zeros(channels, dtype=np.int32))
        return self.node("DequantizeLinear", [bias, scales, zeros], axis=0)

    def _quantized(self, value: str) -> str:
        return self._dequantized(self.node("QuantizeLinear", [value, self._scale, self._zero]))

    def _dequantized(self, value: str) -> str:
        return self.node("DequantizeLinear", [value, self._scale, self._zero])
