import subprocess
import sys

import pytest
import torch
from torch import nn

from compressors.errors import UserError
from compressors.graph import trace
from compressors.graph.stored import graph_json, read_graph


@pytest.fixture(scope="module")
def graph():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    return trace(model.eval(), {"input": torch.zeros(1, 1, 12, 12)})


def test_a_graph_is_read_back_as_it_was(graph):
    assert graph.axis_index(graph.axes[-1].name) == len(graph.axes) - 1
    again = read_graph(graph_json(graph))
    assert again == graph
    assert again.count_macs(again.baseline()).tolist() == [graph.macs]
    assert again.axis_index(graph.axes[-1].name) == len(graph.axes) - 1


def test_what_is_no_graph_is_named(graph):
    with pytest.raises(UserError, match=r"here/graph\.json is not a traced model"):
        read_graph(graph_json(graph)[:-40], "here/graph.json")
    with pytest.raises(UserError, match=r"axes.*Field required"):
        read_graph("{}")


def test_reading_a_graph_needs_no_torch():
    code = "import sys, compressors.graph.stored, evaluators.devices.roofline, compressors.targets.onnxruntime; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
