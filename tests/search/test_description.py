from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import ModelGraph, Shapes, trace
from evaluators.devices.device_model import CostArray, DeviceModel
from search.description import describe


class FlatRate(DeviceModel):
    """A nanosecond a MAC."""

    key = "flat/rate"
    memory_bytes = 10**9

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        value = graph.count_macs(shapes) * 1e-6
        return {name: CostArray(value, value / 2, value * 2, "spec-only") for name in ("latency_ms", "peak_memory_bytes", "energy_mj")}

    def bounds(self, graph: ModelGraph) -> Sequence[tuple[str, str, float]]:
        return [("b", "memory", 1.0), ("a", "compute", 3.0)]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()), nn.Flatten(), nn.Linear(8 * 36, 10)).eval()


def test_totals_are_the_sums_of_modules() -> None:
    inputs = {"input": torch.zeros(1, 3, 8, 8)}
    graph = trace(model(), inputs)
    for depth in (1, 3):
        described = describe(graph, inputs, [FlatRate()], depth)
        assert sum(m["parameters"] for m in described["modules"]) == described["parameters"] == sum(p.numel() for p in model().parameters())
        assert sum(m["macs"] for m in described["modules"]) == described["macs"] == 8 * 36 * 27 + 10 * 8 * 36
    assert [m["name"] for m in describe(graph, inputs, [], 1)["modules"]] == ["0", "2"]


def test_what_a_device_makes_of_it() -> None:
    inputs = {"input": torch.zeros(1, 3, 8, 8)}
    (device,) = describe(trace(model(), inputs), inputs, [FlatRate()])["devices"]
    assert device["latency_ms"]["value"] == pytest.approx(0.010656)
    assert device["latency_ms"]["tier"] == "spec-only"
    assert device["bound_by"] == {"compute": 0.75, "memory": 0.25}
    assert [k["name"] for k in device["kernels"]] == ["a", "b"]


def test_input_sizes_are_not_listed_as_axes() -> None:
    inputs = {"input": torch.zeros(1, 3, 8, 8)}
    axes = describe(trace(model(), inputs), inputs, [])["axes"]
    assert all(axis["kind"] != "input" for axis in axes)
    assert [axis["name"] for axis in axes if axis["fixed"] is None] == ["0.0"]
    assert np.prod([axis["size"] for axis in axes if axis["fixed"] is None]) == 8
