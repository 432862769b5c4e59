import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from compressors.targets.onnx_optimised import layer_widths, optimised


def saved(path, nodes, constants, width=16):
    tensors = [t if isinstance(t, TensorProto) else numpy_helper.from_array(t, name) for name, t in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", None])
    model = helper.make_model(helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.fixture
def integers():
    return np.random.default_rng(0).integers(-60, 60, (16, 12)).astype(np.int8)


def test_a_product_in_float_behind_conversions_is_found(tmp_path, integers):
    constants = {"w": integers, "s": np.float32(0.1), "z": np.int8(0), "xs": np.float32(0.05), "xz": np.uint8(128), "model.head.bias": np.zeros(12, np.float32)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("Gemm", ["xd", "wd", "model.head.bias"], ["y"]),
    ]
    found = optimised(saved(tmp_path / "m.onnx", nodes, constants))
    (product,) = found.float_products
    assert (product.operator, product.name, product.weight, product.activation) == ("Gemm", "head", "DequantizeLinear", "DequantizeLinear")
    assert found.integer == 0


def test_a_cast_that_is_folded_at_load_is_not_one(tmp_path, integers):
    nodes = [helper.make_node("Cast", ["w"], ["wc"], to=TensorProto.FLOAT), helper.make_node("Mul", ["wc", "s"], ["wf"])]
    found = optimised(saved(tmp_path / "m.onnx", [*nodes, helper.make_node("MatMul", ["x", "wf"], ["y"])], {"w": integers, "s": np.float32(0.1)}))
    assert found.float_products == ()
    assert found.operators == {"MatMul": 1}


def test_integer_products_are_counted(tmp_path, integers):
    constants = {"w": integers, "s": np.float32(0.1), "z": np.int8(0), "xs": np.float32(0.05), "xz": np.uint8(128)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["m"]),
        helper.make_node("QuantizeLinear", ["m", "xs", "xz"], ["mq"]),
        helper.make_node("DequantizeLinear", ["mq", "xs", "xz"], ["y"]),
    ]
    found = optimised(saved(tmp_path / "m.onnx", nodes, constants))
    assert (found.integer, found.float_products) == (1, ())


def test_widths_are_those_of_the_stored_weights(tmp_path, integers):
    dequantize = helper.make_node("DequantizeLinear", ["w", "s"], ["wf"])
    turned = {"wt": np.ascontiguousarray(np.zeros((5, 12), np.float32))}
    nodes = [
        dequantize,
        helper.make_node("MatMul", ["x", "wf"], ["h"], name="first"),
        helper.make_node("Transpose", ["wt"], ["w2"], perm=[1, 0]),
        helper.make_node("MatMul", ["h", "w2"], ["y"], name="second"),
    ]
    path = saved(tmp_path / "m.onnx", nodes, {"w": integers, "s": np.float32(0.1), **turned})
    assert layer_widths(path) == [("first", 16, 12), ("second", 12, 5)]


def test_a_grouped_convolution_has_all_its_inputs(tmp_path):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    weight = numpy_helper.from_array(np.zeros((8, 1, 3, 3), np.float32), "model.conv.weight")
    node = helper.make_node("Conv", ["x", "model.conv.weight"], ["y"], group=8)
    model = helper.make_model(helper.make_graph([node], "g", [x], [y], [weight]), opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "m.onnx")
    assert layer_widths(tmp_path / "m.onnx") == [("conv", 8, 8)]
