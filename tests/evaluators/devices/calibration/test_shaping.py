from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import trace
from compressors.targets import target_named
from evaluators.devices.calibration.shaping import correct_shapes, shaped
from evaluators.devices.kernel_table import kernel_table
from evaluators.devices.rates import Rates, rates_of
from evaluators.devices.roofline import Interval, Roofline

RATES = rates_of("raspberry-pi-5", "cpu", "litert", 1)


def model(rates: Rates) -> Roofline:
    return Roofline("imagined", 1, rates, target_named("litert"), "host-calibrated", Interval((1, 1), (1, 1), (1, 1)))


@pytest.fixture(scope="module")
def networks() -> list[tuple[str, Any]]:
    """Linear layers, narrow ones and wide ones, two forms of each network."""
    found = []
    for i, width in enumerate((8, 16, 32, 64, 128, 256, 512)):
        for depth in (width, 4 * width):
            module = nn.Sequential(nn.Linear(depth, width), nn.ReLU(), nn.Linear(width, width))
            graph = trace(module.eval(), (torch.randn(1, 64, depth),), check_cuts=False)
            found.append((f"network {i}", kernel_table(graph, target_named("litert"), graph.baseline())))
    return found


def milliseconds(networks: list[tuple[str, Any]], rates: Rates) -> Any:
    return np.array([rates.overhead_ms + float(model(rates).times(table).kernel.sum()) for _, table in networks])


def test_narrow_kernels_that_are_slower_are_found(networks: list[tuple[str, Any]]) -> None:
    really = shaped(RATES, {"fp32.half_width": 64, "fp32.half_depth": 32})
    times, everything = milliseconds(networks, really), np.ones(len(networks), dtype=np.bool_)
    found = correct_shapes(model, RATES, networks, times, 0.6, np.full(len(networks), 0.04), everything)
    assert np.abs(found.residuals).max() < 0.15, "each network is predicted without itself"
    assert np.abs(np.log(milliseconds(networks, found.rates) / times)).max() < 0.1
    without = np.abs(np.log(milliseconds(networks, RATES) / times))
    assert np.ptp(without) > 0.5, "which one factor could not explain"


def test_without_a_reason_nothing_changes(networks: list[tuple[str, Any]]) -> None:
    times, judged = milliseconds(networks, RATES), np.arange(len(networks)) < 4
    found = correct_shapes(model, RATES, networks, times, 0.6, np.full(len(networks), 0.04), judged)
    assert found.residuals == pytest.approx(np.zeros(4), abs=1e-3)
    assert found.rates.compute == shaped(RATES, {}).compute
    assert list(found.rates.correction.values()) == pytest.approx([1.0] * len(found.rates.correction), rel=1e-3)


def test_a_choice_changes_what_it_names_alone() -> None:
    changed = shaped(RATES, {"launch": 3.0, "int8.half_rows": 4.0})
    assert changed.launch("default") == pytest.approx(3 * RATES.launch("default"))
    assert {rate.half_rows for rate in changed.compute["int8"].values()} == {4.0}
    assert changed.compute["fp32"] == RATES.compute["fp32"]
    assert changed.bandwidth("default") == RATES.bandwidth("default")
