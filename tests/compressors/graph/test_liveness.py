"""Peak of live activations, counted by hand."""

import numpy as np
import torch
from torch import nn

from compressors.graph import Shapes, trace


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(10, 40)
        self.back = nn.Linear(40, 10)

    def forward(self, x):
        return x + self.back(torch.relu(self.wide(x)))


def test_a_residual_stays_alive_and_an_activation_works_in_place():
    graph = trace(Residual(), {"x": torch.randn(2, 10)})
    # At `back`: the input (20), the wide activation (80, relu in place), the output (20).
    assert graph.activation_peak(graph.baseline()).tolist() == [120]


def test_peak_follows_the_widths_of_candidates():
    graph = trace(Residual(), {"x": torch.randn(2, 10)})
    shapes = Shapes.concatenate([graph.baseline()] * 2)
    shapes.widths[1, graph.axis_index("wide")] = 7
    assert graph.activation_peak(shapes).tolist() == [120, 20 + 14 + 20]
    assert shapes.widths.dtype == np.int64
