from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from compressors.graph import trace
from compressors.quantization import flow
from compressors.quantization.simulation import Simulation
from compressors.quantization.straight_through import fake_quantize
from compressors.recipe import Recipe
from compressors.targets import target_named

INPUTS = {"x": torch.zeros(2, 3, 8)}


class Small(nn.Module):
    """Convolution with batch norm, residual addition, and layers with and without groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.next = nn.Conv1d(3, 32, 3, padding=1, bias=False), nn.BatchNorm1d(32), nn.Conv1d(32, 32, 1)
        self.mix, self.head = nn.Linear(32, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.conv(x)))
        x = functional.relu(x + self.next(x)).mean(-1)
        logits: torch.Tensor = self.head(functional.relu(self.mix(x)))
        return logits


SETTINGS = (
    {"weight_bits": 4},
    {"weight_bits": 8, "mode": "dynamic"},
    {"weight_bits": 4, "mode": "dynamic", "granularity": 32},
    {"weight_bits": 8, "observer": "min-max"},
    {"weight_bits": 3, "activation_bits": "float", "symmetric": False},
    {"weight_bits": 4, "activation_bits": "float", "granularity": 32, "symmetric": False},
    {"weight_bits": 4, "overrides": {"mix": {"weight_bits": 16}}},
)


@pytest.mark.parametrize(
    ("runtime", "settings"),
    [
        *(("onnxruntime", settings) for settings in SETTINGS),
        *((runtime, settings) for runtime in ("litert", "executorch", "torch") for settings in SETTINGS[:3]),
    ],
)
def test_what_is_trained_is_what_the_converted_model_computes(runtime: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Small().eval()
    model.norm.running_mean.normal_()
    graph, target = trace(model, INPUTS), target_named(runtime)
    (edit,) = Recipe.from_plain([{"quantize": settings}]).plan(graph, {})
    prepared = flow.prepare(copy.deepcopy(model), graph, edit, target, INPUTS)
    x = torch.randn(16, 3, 8)
    prepared({"x": x})
    for quantizer in prepared.quantizers.values():
        quantizer.freeze()
    simulation = Simulation(prepared, target, {"model.mix.weight"} if "overrides" in settings else ())
    with torch.no_grad():
        for parameter in simulation.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        simulated = simulation(x=x)
    converted = flow.restore(model, graph, edit, target, INPUTS, simulation.state())
    with torch.no_grad():
        outputs = converted(x=x)
        assert float((outputs - simulated).abs().max() / outputs.abs().max()) < 1e-4
        assert float((outputs - model(x=x)).abs().max() / outputs.abs().max()) > 1e-3, "something was quantized"


def test_the_gradient_is_that_of_learned_step_sizes() -> None:
    """At 2.6 steps: 3 - 2.6 for the scale, and all for the value; at 9 steps, cut off at 7: 7 for the scale, and nothing for the value."""
    scale = torch.tensor(0.5, requires_grad=True)
    x = torch.tensor([1.3, 4.5, -4.5], requires_grad=True)
    values = fake_quantize(x, scale, torch.tensor(0), -7, 7)
    assert values.tolist() == [1.5, 3.5, -3.5]
    for i, (by_scale, by_value) in enumerate([(0.4, 1.0), (7.0, 0.0), (-7.0, 0.0)]):
        found = torch.autograd.grad(values[i], (scale, x), retain_graph=True)
        assert found[0].item() == pytest.approx(by_scale, abs=1e-5)
        assert found[1][i].item() == by_value


def test_a_zero_point_counts_in_the_gradient() -> None:
    scale = torch.tensor([0.5], requires_grad=True)
    x = torch.tensor([4.0], requires_grad=True)
    values = fake_quantize(x, scale, torch.tensor([3]), 0, 7)
    assert values.tolist() == [2.0]
    values.sum().backward()
    assert scale.grad.item() == 4.0, "the largest integer less the zero point"
    assert x.grad.item() == 0.0
