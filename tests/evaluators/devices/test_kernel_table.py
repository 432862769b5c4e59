from __future__ import annotations

import pytest
import torch
from torch import nn

from compressors.graph import trace
from compressors.targets import target_named
from evaluators.devices.kernel_table import kernel_table


def test_the_matrices_have_the_sizes_of_their_weights_alone() -> None:
    """Biases and batch norms that are folded into a kernel do not make it wider."""
    model = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.BatchNorm2d(24)).eval()
    graph = trace(model, (torch.zeros(1, 3, 8, 8),))
    products = {p.op_class: p for p in kernel_table(graph, target_named("onnxruntime"), graph.baseline()).products}
    for op_class, depth in (("conv3x3", 27), ("depthwise", 9)):
        found = products[op_class]
        assert (found.depth[0, 0], found.width[0, 0], found.rows[0, 0]) == (pytest.approx(depth), pytest.approx(24), pytest.approx(64))
