from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.layers import read_layers
from evaluators.devices.fitting.measurements import read_measurements
from evaluators.devices.fitting.pooled import covariates, fit, posterior


@pytest.fixture
def measured(benchmark_files: Callable[..., object]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    measurements, layers = benchmark_files()  # type: ignore[misc]
    networks = read_layers(layers)
    found = read_measurements(measurements, networks)
    return design(networks, found.networks), found.ms, covariates(found.settings)


def test_measured_networks_are_explained(measured: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    work, ms, about = measured
    found = fit(work, ms, about)
    assert np.abs(np.exp(found.costs) @ work.T / ms - 1).mean() < 0.05
    assert found.prior.residual < 0.06


def test_a_wild_row_changes_little(measured: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    work, ms, about = measured
    disturbed = ms.copy()
    disturbed[0, 0] *= 5
    change = np.exp(fit(work, disturbed, about).costs[0]) @ work[1:].T / (np.exp(fit(work, ms, about).costs[0]) @ work[1:].T)
    assert np.abs(change - 1).max() < 0.15


def test_a_setting_with_one_row_is_completed_by_the_others(measured: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    work, ms, about = measured
    sparse = ms.copy()
    sparse[0, 1:] = np.nan
    errors = np.abs(np.exp(fit(work, sparse, about).costs[0]) @ work.T / ms[0] - 1)
    assert errors[1:].mean() < 0.3


def test_an_anchor_narrows_what_the_prior_leaves_open(measured: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    work, ms, about = measured
    prior = fit(work, ms[2:], about[2:]).prior
    none = np.full_like(ms[:1], np.nan)
    one = none.copy()
    one[0, 3] = ms[0, 3]
    (unknown, wide), (anchored, narrow) = (posterior(prior, work, rows, about[:1]) for rows in (none, one))
    assert np.abs(np.exp(anchored) @ work.T / ms[:1] - 1).mean() < 0.4 * np.abs(np.exp(unknown) @ work.T / ms[:1] - 1).mean()
    assert np.trace(narrow[0]) < np.trace(wide[0])


def test_the_same_rows_give_the_same_fit(measured: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    work, ms, about = measured
    assert np.array_equal(fit(work, ms, about).costs, fit(work, ms, about).costs)
