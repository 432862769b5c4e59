from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import trace
from compressors.targets import target_named
from evaluators.devices.calibration.correction import correct
from evaluators.devices.kernel_table import kernel_table
from evaluators.devices.rates import Rates, rates_of
from evaluators.devices.roofline import Interval, Roofline

RATES = rates_of("raspberry-pi-5", "cpu", "onnxruntime", 1)


def model(rates: Rates) -> Roofline:
    return Roofline("imagined", 1, rates, target_named("onnxruntime"), "host-calibrated", Interval((1, 1), (1, 1), (1, 1)))


@pytest.fixture(scope="module")
def networks() -> list[tuple[str, Any]]:
    """Convolutions followed by linear layers, in several sizes."""
    found = []
    for i, (channels, features) in enumerate(((64, 8), (96, 8), (16, 512), (24, 1024))):
        module = nn.Sequential(nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(channels, channels, 3), nn.Flatten(), nn.Linear(channels * 14 * 14, features))
        graph = trace(module.eval(), (torch.randn(1, 3, 16, 16),), check_cuts=False)
        found.append((f"network {i}", kernel_table(graph, target_named("onnxruntime"), graph.baseline())))
    return found


def milliseconds(networks: list[tuple[str, Any]], **slower: float) -> Any:
    """What networks take where kernels of a class are slower than their rates say."""
    totals = []
    for _, table in networks:
        times = model(RATES).times(table).kernel[:, 0]
        totals.append(RATES.overhead_ms + sum(time * slower.get(kernel.op_class, 1.0) for kernel, time in zip(table.kernels, times, strict=True)))
    return np.array(totals)


def test_the_factors_that_made_the_times_are_found(networks: list[tuple[str, Any]]) -> None:
    found = correct(model, RATES, networks, milliseconds(networks, conv3x3=1.3, gemm=0.8), spread=0.3)
    assert found.rates.correction["conv3x3:fp32"] == pytest.approx(1.3, rel=0.05)
    assert found.rates.correction["gemm:fp32"] == pytest.approx(0.8, rel=0.05)
    predicted = np.array([RATES.overhead_ms + float(model(found.rates).times(table).kernel.sum()) for _, table in networks])
    assert predicted == pytest.approx(milliseconds(networks, conv3x3=1.3, gemm=0.8), rel=0.05)
    assert np.abs(found.residuals).max() < 0.1


def test_without_a_reason_nothing_changes(networks: list[tuple[str, Any]]) -> None:
    found = correct(model, RATES, networks, milliseconds(networks), spread=0.3)
    assert list(found.rates.correction.values()) == pytest.approx([1.0] * len(found.rates.correction), rel=1e-3)


def test_a_network_is_judged_by_factors_that_it_has_no_part_in(networks: list[tuple[str, Any]]) -> None:
    times = milliseconds(networks)
    times[2] *= 1.5
    residuals = correct(model, RATES, networks, times, spread=0.3).residuals
    assert residuals[2] == pytest.approx(-np.log(1.5), abs=0.02)


def test_what_arithmetic_waits_for_weights_is_found() -> None:
    networks = []
    for i, (tokens, size) in enumerate(((64, 512), (128, 512), (64, 256), (512, 256), (1024, 64))):
        graph = trace(nn.Sequential(nn.Linear(size, size), nn.Linear(size, size)).eval(), (torch.randn(1, tokens, size),), check_cuts=False)
        networks.append((f"network {i}", kernel_table(graph, target_named("onnxruntime"), graph.baseline())))
    rates, true = (RATES.model_copy(update={"late_weights": {"product": share}}) for share in (0.5, 1.5))
    measured = np.array([float(model(true).times(table).kernel.sum()) + rates.overhead_ms for _, table in networks])
    assert correct(model, rates, networks, measured, 0.1).rates.late_weights["product"] == pytest.approx(1.5, rel=0.15)
