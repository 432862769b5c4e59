"""What the comparisons compute from finished runs, and that candidates priced together are checked against candidates priced alone."""

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import trace
from compressors.targets import target_named
from evaluators.devices import device_named
from evaluators.devices.device_model import GENERATING, PREDICTED


@pytest.fixture
def recoveries(script):
    return script("recoveries")


def test_the_interval_of_a_paired_difference_is_that_of_its_means(recoveries):
    rng = np.random.default_rng(0)
    image = rng.normal(0.02, 0.3, 400)
    mean, low, high = recoveries.paired(np.stack([image, image, image]), np.zeros((3, 400)))
    # Seeds that agree on every image tell nothing new: the images alone make the interval.
    half = 1.96 * image.std(ddof=1) / np.sqrt(400)
    assert mean == pytest.approx(image.mean())
    assert (high - mean, mean - low) == pytest.approx((half, half), rel=1e-3)
    # Seeds that differ everywhere make it wider.
    apart = recoveries.paired(np.stack([image - 0.2, image, image + 0.2]), np.zeros((3, 400)))
    assert apart[0] == pytest.approx(mean)
    assert apart[2] - apart[1] > 3 * (high - low)
    assert recoveries.paired(np.ones((3, 9)), np.ones((3, 9))) == (0, 0, 0)


def test_finished_runs_are_found_again_under_the_same_settings_only(recoveries, tmp_path):
    path = tmp_path / "new" / "runs.jsonl"
    recoveries.Runs(path).add({"accuracy": 0.9}, tool="ours", steps=250, seed=0)
    again = recoveries.Runs(path)
    assert again.get(seed=0, steps=250, tool="ours")["accuracy"] == 0.9
    assert again.get(tool="ours", steps=251, seed=0) is None
    assert again.get(tool="ours", steps=250, seed=1) is None


def test_a_table_is_markdown(recoveries):
    assert list(recoveries.markdown(("a", "b"), [("1", "2")])) == ["| a | b |", "|---|---|", "| 1 | 2 |"]
    assert recoveries.points((0.01234, -0.001, 0.02)) == "+1.23 [-0.10, +2.00]"


def test_prices_that_depend_on_the_other_candidates_are_reported(script):
    pricing = script("shapes_pricing")
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))
    graph, target = trace(model, (torch.randn(2, 6),)), target_named("onnxruntime")
    devices = {"pi": device_named("raspberry-pi-5/onnxruntime"), "phone": device_named("pixel-7/onnxruntime")}
    # More than are priced at once.
    shapes = pricing.random_shapes(graph, 300, np.random.default_rng(0))
    assert len({tuple(row) for row in shapes.widths}) > 100
    together = pricing.prices(graph, target, devices, shapes)
    assert len(together) == 3 + 2 * (len(PREDICTED) - len(GENERATING))
    assert pricing.differing(graph, target, devices, shapes, together, range(250, 300)) == []
    together["latency_ms@phone"][260] *= 1 + 1e-9
    (line,) = pricing.differing(graph, target, devices, shapes, together, range(250, 300))
    assert line.startswith("candidate 260: latency_ms@phone is")
