from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compressors.targets.onnx_dynamic import dynamic_quantize
from compressors.targets.onnx_session import optimised_operators

from .conftest import IMAGES, TOKENS, bert, conv_net, llama

LINEAR_LAYERS = 8
"""Of the small BERT: query, key, value, output, two feed-forward ones, the pooler and the classifier."""


@pytest.fixture(scope="module", params=[8, 4])
def made(request: Any, exported: Any) -> Any:
    return exported(bert(), TOKENS, {"weight_bits": request.param, "mode": "dynamic"})


def test_every_linear_layer_runs_a_fused_integer_kernel(made: Any) -> None:
    operators = optimised_operators(made.path)
    # Query, key and value share their input, which is quantized once for the three.
    assert operators["DynamicQuantizeMatMul"] == LINEAR_LAYERS - 3
    assert operators["MatMulIntegerToFloat"] == 3
    assert operators["DynamicQuantizeLinear"] == 1
    assert operators["MatMulInteger"] == operators["Gemm"] == operators["DequantizeLinear"] == 0


def test_the_file_keeps_the_bytes_that_were_priced(made: Any) -> None:
    assert made.file_bytes == pytest.approx(made.priced_bytes, rel=0.02)


def test_torch_and_onnx_runtime_agree_at_any_batch(made: Any) -> None:
    for batch in (1, 5):
        tokens = torch.randint(0, 90, (batch, 6), generator=torch.Generator().manual_seed(batch))
        ours, theirs = made.both({"input_ids": tokens, "attention_mask": torch.ones_like(tokens)})
        assert ours.shape == (batch, 3)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_file_holds_integers_of_the_width_that_was_asked_for(made: Any) -> None:
    bits = made.model.compareto_structure["quantize"]["weight_bits"]["classifier.weight"]
    matrices = [i for i in made.proto().graph.initializer if len(i.dims) == 2 and i.data_type in (TensorProto.INT8, TensorProto.INT4)]
    assert Counter(i.data_type for i in matrices) == {TensorProto.INT8 if bits == 8 else TensorProto.INT4: LINEAR_LAYERS + 3}, "and three embeddings"
    largest = Counter(int(np.abs(numpy_helper.to_array(i).astype(np.int32)).max()) for i in matrices)
    # Products of integers leave headroom for processors that add them in 16 bits; embeddings are not multiplied.
    assert largest == ({63: LINEAR_LAYERS, 127: 3} if bits == 8 else {7: LINEAR_LAYERS + 3})


def test_convolutions_keep_float_activations_and_the_log_says_so(exported: Any) -> None:
    made = exported(conv_net(), IMAGES, {"mode": "dynamic"})
    assert made.lines == ["quantize: conv.weight: activations stay float: convolutions have no ranges at run time"]
    operators = optimised_operators(made.path)
    assert operators["DynamicQuantizeMatMul"] == 1
    assert sum(count for name, count in operators.items() if name in ("Conv", "FusedConv")) == 1
    assert made.file_bytes == pytest.approx(made.priced_bytes, rel=0.02)
    ours, theirs = made.both({"x": torch.randn(3, 3, 8, 8)})
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_layers_that_share_a_weight_share_its_four_bits(exported: Any) -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(64, 64)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.layer(torch.relu(self.layer(x)))
            return logits

    made = exported(Twice().eval(), {"x": torch.randn(2, 64)}, {"weight_bits": 4, "mode": "dynamic"})
    assert made.file_bytes == pytest.approx(made.priced_bytes, rel=0.02)
    ours, theirs = made.both({"x": torch.randn(3, 64)})
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_tied_embeddings_are_stored_once_and_stay_float(exported: Any) -> None:
    made = exported(llama(tied=True), {"input_ids": TOKENS["input_ids"]}, {"weight_bits": 4, "mode": "dynamic"})
    assert made.file_bytes == pytest.approx(made.priced_bytes, rel=0.02)
    operators = optimised_operators(made.path)
    assert operators["DynamicQuantizeMatMul"] + operators["MatMulIntegerToFloat"] == 7, "all but the output layer"
    ours, theirs = made.both({"input_ids": torch.randint(0, 90, (3, 6))})
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(size=(7, 33)),
        np.zeros((2, 3)),
        np.full((2, 3), 2.5),
        np.full((2, 3), -2.5),
        np.array([[1e-30, 0.0]]),
        np.arange(-128, 128) / 2,
    ],
    ids=["normal", "zeros", "positive", "negative", "tiny", "ties"],
)
def test_ranges_round_as_onnx_runtime_rounds_them(values: np.ndarray) -> None:
    x = values.astype(np.float32)
    node = helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])
    outputs = [helper.make_tensor_value_info(n, t, None) for n, t in (("q", TensorProto.UINT8), ("s", TensorProto.FLOAT), ("z", TensorProto.UINT8))]
    graph = helper.make_graph([node], "one", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    theirs = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": x})
    for ours, expected in zip(dynamic_quantize(torch.from_numpy(x)), theirs, strict=True):
        np.testing.assert_array_equal(ours.numpy(), expected)
