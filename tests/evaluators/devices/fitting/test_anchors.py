from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evaluators.devices.fitting.anchors import choose_anchors, preferred
from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.layers import read_layers
from evaluators.devices.fitting.measurements import read_measurements
from evaluators.devices.fitting.pooled import covariates, fit


def test_anchors_are_measured_rows_and_one_row_is_left_to_score(benchmark_files: Callable[..., object]) -> None:
    measurements, layers = benchmark_files()  # type: ignore[misc]
    networks = read_layers(layers)
    found = read_measurements(measurements, networks)
    work, about = design(networks, found.networks), covariates(found.settings)
    prior = fit(work, found.ms, about).prior
    sparse = found.ms.copy()
    sparse[0, 2:] = np.nan
    sparse[1, :] = np.nan
    chosen = choose_anchors(prior, work, sparse, about, 3)
    assert chosen.sum(axis=1).tolist() == [1, 0, *[3] * (len(sparse) - 2)]
    assert np.isfinite(sparse[chosen]).all()
    assert np.array_equal(chosen, choose_anchors(prior, work, sparse * 7, about, 3))  # latencies do not matter


def test_preferred_networks_come_first_where_the_device_has_them() -> None:
    ms, chosen = np.array([1.0, np.nan, 3.0, 4.0]), np.array([True, False, False, True])
    assert preferred([1, 2], ms, chosen).tolist() == [True, False, True, False]
    assert preferred([], ms, chosen).tolist() == chosen.tolist()
