from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evaluators.devices.fitting.familiar import by_threads, circumstances, fit_familiar
from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.layers import read_layers
from evaluators.devices.fitting.measurements import Measurements, read_measurements
from evaluators.devices.fitting.pooled import covariates, fit


@pytest.fixture
def measured(benchmark_files: Callable[..., tuple[Path, Path]]) -> tuple[Measurements, np.ndarray]:
    measurements, layers = benchmark_files(devices=tuple(f"device {i}" for i in range(12)))
    networks = read_layers(layers)
    found = read_measurements(measurements, networks)
    return found, design(networks, found.networks)


def test_settings_are_grouped_by_threads(measured: tuple[Measurements, np.ndarray]) -> None:
    found, _ = measured
    assert {group: len(rows) for group, rows in by_threads(found.settings).items()} == {"1": 12, "2+": 12}


def test_a_quirk_of_a_network_that_all_devices_share_is_learned(measured: tuple[Measurements, np.ndarray]) -> None:
    found, work = measured
    ms = found.ms.copy()
    ms[:, 0] *= 3  # its kernels do not say why
    about = circumstances(found.settings)
    learned = fit_familiar(fit(work, ms[2:], covariates(found.settings)[2:]).prior, work, ms[2:], about[2:])
    anchors = np.full((2, ms.shape[1]), np.nan)
    anchors[:, 1] = ms[:2, 1]
    logs, deviations = learned.given(about[:2], anchors)
    assert np.abs(np.exp(logs[:, 0]) / ms[:2, 0] - 1).max() < 0.4
    assert (deviations[:, 1] < 0.5 * deviations[:, 0]).all()


def test_the_order_has_no_network_twice_and_leaves_one_to_predict(measured: tuple[Measurements, np.ndarray]) -> None:
    found, work = measured
    about = circumstances(found.settings)
    learned = fit_familiar(fit(work, found.ms, covariates(found.settings)).prior, work, found.ms, about)
    order = learned.order(about, found.ms, 99)
    assert len(set(order)) == len(order) == found.ms.shape[1] - 1
    assert learned.order(about, found.ms, 3) == order[:3]
