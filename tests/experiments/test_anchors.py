import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import trace
from evaluators.devices import device_named


@pytest.fixture
def anchors(script):
    return script("anchors")


@pytest.fixture
def rows():
    """Widths of a network that takes 1.7 times what the profile says."""
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(64 * 36, 10))
    graph, device = trace(network.eval(), (torch.zeros(1, 3, 8, 8),)), device_named("x86-server-core/onnxruntime:1t")
    found = []
    for share in (1.0, 0.8, 0.5, 0.3):
        shapes = graph.baseline()
        shapes.widths[0] = [axis.size if axis.fixed else int(axis.size * share) for axis in graph.axes]
        ms = 1.7 * float(device.cost(graph, shapes)["latency_ms"].value[0])
        found.append({"model": "imagined", "graph": graph, "shapes": shapes, "ms": ms})
    return device, found


def test_what_was_not_drawn_is_scored(anchors, rows):
    device, known = rows
    before, after = anchors.scored(known, [], device), anchors.scored(known, [0, 2], device)
    assert (len(before), len(after)) == (4, 2)
    assert before[:, 0] == pytest.approx(np.full(4, -np.log(1.7)))
    assert np.abs(after[:, 0]).max() < 0.05
    assert after[:, 1].all()
    assert after[:, 2].max() < before[:, 2].min()


def test_one_anchor_scaled_by_multiply_accumulates_is_beside_it(anchors, rows):
    _, known = rows
    macs = [int(row["graph"].count_macs(row["shapes"])[0]) for row in known]
    expected = [np.log(known[0]["ms"] * macs[i] / macs[0] / known[i]["ms"]) for i in (1, 2, 3)]
    assert anchors.by_macs(known) == pytest.approx(expected)
    assert "| 1 | 100.0 % | 100.0 % | 0 % | 90 % | 1.50 |" in anchors.line("1", np.log([2.0]), "90 %", "1.50")
