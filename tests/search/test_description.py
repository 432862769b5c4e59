from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import ModelGraph, Shapes, generation_entries, trace
from compressors.targets import target_named
from evaluators.devices import device_named
from evaluators.devices.device_model import CostArray, DeviceModel, KernelBound
from search.description import bounded, describe, kernels_of
from tests.conformance.families import build

TARGET = target_named("onnxruntime")
INPUTS = {"input": torch.zeros(1, 3, 8, 8)}


class FlatRate(DeviceModel):
    """A nanosecond a MAC."""

    key = "flat/rate"
    memory_bytes = 10**9

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        value = graph.count_macs(shapes) * 1e-6
        return {name: CostArray(value, value / 2, value * 2, "spec-only") for name in ("latency_ms", "peak_memory_bytes", "energy_mj")}

    def bounds(self, graph: ModelGraph, shapes: Shapes | None = None) -> Sequence[KernelBound]:
        return [KernelBound("b", "memory", 1.0), KernelBound("a", "compute", 3.0)]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return trace(model(), INPUTS)


@pytest.mark.parametrize("depth", [None, 1, 3])
def test_totals_are_the_sums_of_blocks(graph: ModelGraph, depth: int | None) -> None:
    described = describe(graph, INPUTS, [], TARGET, depth)
    assert sum(b["parameters"] for b in described["blocks"]) == described["parameters"] == sum(p.numel() for p in model().parameters())
    assert sum(b["macs"] for b in described["blocks"]) == described["macs"] == 8 * 36 * 27 + 10 * 8 * 36
    # The batch norm is folded into a bias that the convolution has anyway.
    assert sum(b["bytes"] for b in described["blocks"]) == described["bytes"] == 4 * (described["parameters"] - 2 * 8)
    assert [b["name"] for b in described["blocks"]] == (["0.0", "0.1", "2"] if depth == 3 else ["0", "2"])


@pytest.mark.parametrize(
    ("family", "names"),
    [
        ("bert", ["bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "bert.pooler", "classifier"]),
        ("resnet20", ["conv1", "bn1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "linear"]),
        ("llama", ["model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "lm_head"]),
    ],
)
def test_blocks_are_those_of_the_stacks_and_what_is_around_them(family: str, names: list[str]) -> None:
    made, inputs = build(family)
    described = describe(trace(made, inputs), inputs, [], TARGET)
    blocks = {b["name"]: b for b in described["blocks"]}
    assert list(blocks) == names
    first = next(name for name in names if name.endswith("0"))
    assert blocks[first]["parameters"] == sum(p.numel() for p in made.get_submodule(first).parameters())
    assert [sum(b[key] for b in blocks.values()) for key in ("parameters", "bytes", "macs")] == [described[key] for key in ("parameters", "bytes", "macs")]


def test_a_wrapper_around_everything_is_no_block() -> None:
    wrapped = nn.ModuleDict({"inner": model()})
    wrapped.forward = lambda input: wrapped["inner"](input)  # type: ignore[method-assign] # noqa: A006 - the name of the input
    described = describe(trace(wrapped.eval(), INPUTS), INPUTS, [], TARGET)
    assert [b["name"] for b in described["blocks"]] == ["inner.0", "inner.2"]


def test_what_a_device_makes_of_it(graph: ModelGraph) -> None:
    (device,) = describe(graph, INPUTS, [FlatRate()], TARGET)["devices"]
    assert device["latency_ms"]["value"] == pytest.approx(0.010656)
    assert device["latency_ms"]["tier"] == "spec-only"
    assert device["bound_by"] == {"compute": 0.75, "memory": 0.25}
    assert [k["name"] for k in device["kernels"]] == ["a", "b"]


def test_kernels_name_their_modules(graph: ModelGraph) -> None:
    (device,) = describe(graph, INPUTS, [device_named("raspberry-pi-5/onnxruntime")], TARGET)["devices"]
    assert {k["module"] for k in device["kernels"]} == {"0.0", "2"}


def test_a_record_keeps_the_slowest_kernels_of_a_candidate_and_those_of_a_token() -> None:
    made, inputs = build("llama")
    llama = trace(made, inputs, check_cuts=False, programs=generation_entries(made, inputs))
    device = device_named("raspberry-pi-5/onnxruntime")
    found = bounded(llama, device, llama.baseline())
    for kept, program in ((found, llama), (found["decode"], llama.by_program["decode"])):
        everything = kernels_of(program, device)
        assert [k["name"] for k in kept["kernels"]] == [k["name"] for k in everything["kernels"]][: len(kept["kernels"])]
        assert kept["bound_by"] == everything["bound_by"]
        assert 0 < kept["kernels"][0]["share"] <= 1
        assert len(kept["kernels"]) < len(everything["kernels"])


def test_kernels_of_a_smaller_candidate_are_its_own(graph: ModelGraph) -> None:
    device, half = device_named("raspberry-pi-5/onnxruntime"), graph.baseline()
    half.widths[:, next(i for i, axis in enumerate(graph.axes) if axis.fixed is None)] = 4
    whole, smaller = (sum(k["ms"] for k in kernels_of(graph, device, shapes)["kernels"]) for shapes in (None, half))
    assert smaller < whole


def test_units_are_said_where_a_model_is_placed_on_several(graph: ModelGraph) -> None:
    found = kernels_of(graph, device_named("galaxy-s24.npu+cpu/litert"))
    assert sum(found["units"].values()) == pytest.approx(1, abs=1e-3)
    assert {k["unit"] for k in found["kernels"]} == set(found["units"]) <= {"npu", "cpu"}
    assert "units" not in kernels_of(graph, device_named("galaxy-s24.npu/litert"))


def test_input_sizes_are_not_listed_as_axes(graph: ModelGraph) -> None:
    axes = describe(graph, INPUTS, [], TARGET)["axes"]
    assert all(axis["kind"] != "input" for axis in axes)
    assert [axis["name"] for axis in axes if axis["fixed"] is None] == ["0.0"]
    assert np.prod([axis["size"] for axis in axes if axis["fixed"] is None]) == 8


def test_the_program_is_the_forward_pass(graph: ModelGraph) -> None:
    (program,) = describe(graph, INPUTS, [], TARGET)["programs"]
    # Flattening costs nothing: convolution, batch norm, ReLU and the linear layer are executed, the first three as one kernel.
    assert program == {"name": "forward", "inputs": ["input"], "operators": 4, "kernels": 2, "macs": graph.macs}
