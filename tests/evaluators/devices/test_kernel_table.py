from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import trace
from compressors.targets import target_named
from evaluators.devices.kernel_table import kernel_table
from evaluators.devices.memory import peak_bytes
from evaluators.devices.names import parse_device
from evaluators.devices.registry import spec_model


def test_the_matrices_have_the_sizes_of_their_weights_alone() -> None:
    """Biases and batch norms that are folded into a kernel do not make it wider."""
    model = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.BatchNorm2d(24)).eval()
    graph = trace(model, (torch.zeros(1, 3, 8, 8),))
    products = {p.op_class: p for p in kernel_table(graph, target_named("onnxruntime"), graph.baseline()).products}
    for op_class, depth in (("conv3x3", 27), ("depthwise", 9)):
        found = products[op_class]
        assert (found.depth[0, 0], found.width[0, 0], found.rows[0, 0]) == (pytest.approx(depth), pytest.approx(24), pytest.approx(64))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.up, self.down, self.second = nn.LayerNorm(32), nn.Linear(32, 48), nn.Linear(48, 32), nn.LayerNorm(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.second(x + self.down(nn.functional.gelu(self.up(self.first(x)))))
        return y


def test_kernels_without_arithmetic_may_be_summed() -> None:
    graph = trace(nn.Sequential(Block(), Block(), Block()).eval(), (torch.zeros(1, 5, 32),))
    rng = np.random.default_rng(0)
    shapes = graph.baseline()[np.zeros(20, dtype=np.int64)]
    bits = rng.choice([8, 32], shapes.weight_bits.shape)
    shapes = dataclasses.replace(shapes, weight_bits=bits, activation_bits=bits, dynamic=rng.random(20) < 0.5)
    model = spec_model(parse_device("raspberry-pi-5/onnxruntime"))
    table = kernel_table(graph, model.target, shapes)
    assert len(table.summed.kernels) < len(table.kernels)
    whole, summed = model.times(table), model.times(table.summed)
    np.testing.assert_allclose(summed.kernel.sum(axis=0), whole.kernel.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(summed.bytes.sum(axis=0), whole.bytes.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(peak_bytes(table.summed, model.rates), peak_bytes(table, model.rates), rtol=1e-12)
