import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compressors.targets.tensorrt_operators import tensorrt_problems


@pytest.fixture
def check(tmp_path):
    """Problems of a graph of some nodes."""

    def run(nodes, constants=(), opset=21):
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])
        tensors = [c if isinstance(c, TensorProto) else numpy_helper.from_array(c[1], c[0]) for c in constants]
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=imports), tmp_path / "m.onnx")
        return tensorrt_problems(tmp_path / "m.onnx")

    return run


def quantized(kind, zero, name="QuantizeLinear"):
    return [helper.make_node(name, ["x", "s", "z"], ["y"], name="q")], [("s", np.float32(0.1)), ("z", np.array(zero, dtype=kind))]


def weight(kind, **attributes):
    scales = np.ones((64 // attributes["block_size"], 64) if attributes else 64, np.float32)
    stored = [helper.make_tensor("w", kind, [64, 64], bytes(64 * 64 // (2 if kind == TensorProto.INT4 else 1)), raw=True), ("s", scales)]
    zero = helper.make_tensor("z", kind, scales.shape, bytes(scales.size // (2 if kind == TensorProto.INT4 else 1)), raw=True)
    dequantize = helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], axis=0 if attributes else 1, name="dq", **attributes)
    return [dequantize, helper.make_node("MatMul", ["x", "wf"], ["y"])], [*stored, zero]


def test_what_is_on_the_list_has_no_problem(check):
    assert check([helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Gelu", ["h"], ["y"])], [("w", np.zeros((64, 8), np.float32))]) == []
    assert check(*quantized(np.int8, 0)) == []
    assert check(*weight(TensorProto.INT8)) == []
    assert check(*weight(TensorProto.INT4, block_size=64)) == []


@pytest.mark.parametrize(
    ("graph", "said"),
    [
        (quantized(np.uint8, 0), "QuantizeLinear of UINT8; accepted: INT8, and INT4 for weights (1, first q)"),
        (quantized(np.int8, 3), "QuantizeLinear with a zero point that is not zero (1, first q)"),
        (quantized(np.int16, 0), "QuantizeLinear of INT16; accepted: INT8, and INT4 for weights (1, first q)"),
        (weight(TensorProto.INT4), "DequantizeLinear of INT4 weights without blocks; accepted: blocks of 64 or 128 (1, first dq)"),
        (weight(TensorProto.INT4, block_size=32), "DequantizeLinear of INT4 weights in blocks of 32; accepted: blocks of 64 or 128 (1, first dq)"),
        (
            ([helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", name="n", K=64, N=8, bits=4, block_size=32)], []),
            "com.microsoft.MatMulNBits is no operator of the ONNX standard (1, first n)",
        ),
        (([helper.make_node("DynamicQuantizeLinear", ["x"], ["y", "s", "z"], name="d")], []), "DynamicQuantizeLinear is not supported (1, first d)"),
        (
            ([helper.make_node("Cast", ["w"], ["y"], to=TensorProto.FLOAT, name="c")], [("w", np.zeros((4, 4), np.int8))]),
            "Cast of stored INT8: only DequantizeLinear reads quantized types (1, first c)",
        ),
    ],
)
def test_what_is_not_is_named_with_what_is_accepted(check, graph, said):
    assert said in check(*graph)


def test_an_operator_set_that_is_too_new(check):
    assert check([helper.make_node("Relu", ["x"], ["y"])], opset=26) == ["opset 26; TensorRT 10.15 reads 9 to 24"]
