"""Axes that the model's own code cannot follow are fixed, with the reason."""

import torch
from torch import nn

from compressors.graph import trace


class Literal(nn.Module):
    """Two layers whose code repeats their width as a number, and two that do not."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.second = nn.Linear(8, 12)
        self.third = nn.Linear(12, 10)
        self.head = nn.Linear(10, 3)

    def forward(self, x):
        x = torch.relu(self.first(x))
        x = self.second(x.view(-1, 8))
        x = torch.relu(self.third(torch.relu(x)))
        return self.head(x[:, :10])


class SilentTruth(nn.Module):
    """Scales by a number that was the width when it was written: runs after a cut, but means something else."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.first(x)
        return self.head(x / x.shape[1])


def test_only_the_axis_that_breaks_is_fixed():
    graph = trace(Literal(), {"x": torch.randn(4, 6)})
    fixed = {a.name: a.fixed for a in graph.axes if a.kind == "ffn" and a.fixed and "follow" in a.fixed}
    assert list(fixed) == ["first"]
    assert "shape" in fixed["first"]
    assert {a.name for a in graph.prunable} == {"second", "third"}


def test_a_cut_that_runs_but_computes_something_else_is_found():
    graph = trace(SilentTruth(), {"x": torch.randn(4, 6)})
    assert graph.prunable == ()
    (axis,) = [a for a in graph.axes if a.name == "first"]
    assert axis.fixed == "the model's code does not follow a cut: it computes something else"
