"""Factorised, shared and sparse models of several families: the price is that of the model really made; what is saved, quantized and exported is that model."""

import functools
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compressors.checkpoint import load, save
from compressors.context import logits_of
from compressors.graph import trace
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from evaluators.devices.kernel_table import kernel_table
from tests.compressors.applied import applied
from tests.conformance.families import build

ROOT = Path(__file__).parents[2]
TARGET = OnnxRuntime()
GROUPS = {
    "bert": [["*.layer.0.intermediate", "*.layer.1.intermediate"], ["*.query"]],
    "llama": [["*.layers.*.mlp"]],
    "basic_resnet": [["*.stages.0.layers.1", "*.stages.0.layers.2"], ["*.stages.1.layers.[12].layer.0"]],
    "resnet20": [["layer1.0", "layer1.1"]],
}
LOW_RANK, SPARSIFY = {"low_rank": {"rank": 0.25}}, {"sparsify": {"pattern": "2:4"}}


def share(family):
    return {"share_weights": {"groups": GROUPS[family], "init": "mean"}}


RECIPES = {
    "low rank": lambda _: [LOW_RANK],
    "pruned, low rank": lambda _: [{"prune": {"ratio": 0.5}}, {"low_rank": {"energy": 0.6}}],
    "low rank, pruned": lambda _: [{"low_rank": {"rank": 0.3}}, {"prune": {"ratio": 0.4}}],
    "pruned, shared": lambda family: [{"prune": {"ratio": 0.5}}, share(family)],
    "shared, low rank, pruned, sparse": lambda family: [share(family), {"low_rank": {"energy": 0.5}}, {"prune": {"ratio": {"hidden": 0.5}}}, SPARSIFY],
}


@functools.cache
def traced(family):
    torch.manual_seed(0)
    model, inputs = build(family)
    for parameter in model.parameters():
        if parameter.ndim == 1:
            # Biases of a fresh model are zeros, of which an exported file keeps one copy.
            parameter.data = parameter.data + 0.01 * torch.randn(parameter.shape)
    return model.eval(), inputs, trace(model, inputs)


def made(family, steps):
    """The recipe's model, and the shapes that it was priced by."""
    model, inputs, graph = traced(family)
    smaller, _, shapes = applied(steps, model, inputs, graph)
    return smaller, shapes


def output(model, inputs):
    with torch.no_grad():
        return logits_of(model(**inputs))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("family", GROUPS)
def test_the_price_is_that_of_the_model_really_made(family, recipe):
    _, inputs, graph = traced(family)
    smaller, shapes = made(family, RECIPES[recipe](family))
    assert graph.count_parameters(shapes)[0] == sum(p.numel() for p in smaller.parameters())
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        smaller(**inputs)
    assert graph.count_macs(shapes)[0] == counter.get_total_flops() / 2
    again = trace(smaller, inputs, check_cuts=False)
    assert graph.activation_peak(shapes)[0] == again.activation_peak(again.baseline())[0]
    if "resnet" not in family or "shared" not in recipe:
        # Shared convolutions are stored once for each batch norm that is folded into them; a trace sees a tied weight.
        assert TARGET.stored_bytes(graph, shapes)[0] == TARGET.stored_bytes(again, again.baseline())[0]
    planned, found = kernel_table(graph, TARGET, shapes), kernel_table(again, TARGET, again.baseline())
    for field in ("macs", "weights", "inputs", "outputs"):
        assert np.array_equal(getattr(planned, field)[planned.present[:, 0] > 0], getattr(found, field)[found.present[:, 0] > 0])


def test_dropped_blocks_take_their_factors_and_leave_shared_weights_to_the_others():
    _, _, graph = traced("basic_resnet")
    blocks = {"prune": {"ratio": {"blocks": 0.4}}}
    for steps in ([LOW_RANK, blocks], [blocks, LOW_RANK], [{"share_weights": {"every": 2}}, blocks]):
        smaller, shapes = made("basic_resnet", steps)
        assert graph.count_parameters(shapes)[0] == sum(p.numel() for p in smaller.parameters()) < graph.parameters


def test_a_checkpoint_is_the_same_model_in_a_fresh_process(tmp_path):
    """Bit for bit, tied where it was tied, sparse where it was sparse."""
    cases = {
        f"{family}-{i}": (family, steps)
        for family in ("bert", "resnet20")
        for i, steps in enumerate(
            (
                RECIPES["low rank, pruned"](family),
                [*RECIPES["shared, low rank, pruned, sparse"](family), {"quantize": {"weight_bits": 8, "activation_bits": 16}}],
            )
        )
    }
    expected = {}
    for name, (family, steps) in cases.items():
        model, _ = made(family, steps)
        save(model, tmp_path / name)
        expected[name] = digest(output(model, traced(family)[1]))
    torch.save({family: traced(family)[1] for family in ("bert", "resnet20")}, tmp_path / "inputs.pt")
    program = f"""
import json, sys, torch
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from compressors.checkpoint import load
from tests.conformance.families import build
from tests.conformance.test_steps import digest, output
inputs = torch.load({str(tmp_path / "inputs.pt")!r}, weights_only=True)
found = {{}}
for name, family in {json.dumps({name: family for name, (family, _) in cases.items()})}.items():
    model = load(Path({str(tmp_path)!r}) / name, None if family == "bert" else build(family)[0])
    found[name] = digest(output(model, inputs[family]))
print(json.dumps(found))
"""
    printed = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True).stdout
    assert json.loads(printed.splitlines()[-1]) == expected
    loaded = load(tmp_path / "bert-0")
    assert loaded.bert.encoder.layer[0].intermediate.dense.first.weight.shape[0] == 14


def digest(values):
    return hashlib.sha256(values.numpy().tobytes()).hexdigest()


EXPORTS = {
    "low rank, dynamic": ("bert", [LOW_RANK, {"quantize": {"mode": "dynamic"}}], True),
    "low rank, static": ("basic_resnet", [LOW_RANK, {"quantize": {}}], True),
    "shared, 4 bits": ("basic_resnet", [share("basic_resnet"), {"quantize": {"weight_bits": 4, "activation_bits": 16}}], True),
    # The exporter stores the rows of a table of positions that are looked up, and no others.
    "shared, half": ("bert", [share("bert"), {"quantize": {"weight_bits": 16}}], False),
    "shared, low rank, sparse": ("bert", [share("bert"), {"low_rank": {"rank": 0.25, "round_to": 4}}, SPARSIFY], False),
    "sparse, static": ("resnet20", [SPARSIFY, {"quantize": {}}], True),
}


@pytest.mark.parametrize("case", EXPORTS)
def test_the_file_gives_the_models_answers_and_has_the_bytes_that_were_priced(case, tmp_path):
    family, steps, exact = EXPORTS[case]
    _, inputs, graph = traced(family)
    smaller, shapes = made(family, steps)
    path = TARGET.export(smaller, inputs, tmp_path)
    ours, theirs = output(smaller, inputs).numpy(), OnnxSession(path, 1)({name: value.numpy() for name, value in inputs.items()})["logits"]
    # Activations on the edge between two integers may fall to either side.
    np.testing.assert_allclose(ours, theirs, atol=0.02 * np.abs(ours).max())
    if exact:
        assert TARGET.file_bytes(path) == pytest.approx(TARGET.stored_bytes(graph, shapes)[0], rel=0.01)
    if "quantize" in steps[-1] and steps[-1]["quantize"].get("weight_bits", 8) >= 8:
        before, _ = made(family, steps[:-1])
        assert np.abs(output(before, inputs).numpy() - ours).max() < 0.1 * np.abs(ours).max()
    if SPARSIFY in steps:
        assert share_of_zeros(path) == pytest.approx(0.5, abs=0.02)


def share_of_zeros(path):
    """Of the matrices and kernels in a file whose inputs are a multiple of four."""
    graph = onnx.load(path).graph
    weights = {node.input[1] for node in graph.node if node.op_type in ("MatMul", "Gemm", "Conv")}
    weights |= {node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    arrays = [numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in weights]
    arrays = [array for array in arrays if array.ndim > 1 and array.shape[1] % 4 == 0]
    assert len(arrays) > 8
    return sum((array == 0).sum() for array in arrays) / sum(array.size for array in arrays)
