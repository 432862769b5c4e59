from __future__ import annotations

import numpy as np
import pytest

from evaluators.devices.fitting.metrics import kendall_tau, scores


def test_figures_of_a_group() -> None:
    measured = np.array([[10.0, 20.0, 40.0], [1.0, 2.0, np.nan]])
    predicted = np.array([[10.9, 20.0, 60.0], [1.0, 2.0, 3.0]])
    found = scores(predicted, measured, ["pi", "phone"], ["mobilenet", "mobilenet_v3", "vgg16"])
    assert found["mape"] == pytest.approx(0.118)
    assert found["median_ape"] == 0
    assert found["within_10"] == pytest.approx(0.8)
    assert found["kendall_tau"] == 1


def test_rank_correlation_is_never_missing() -> None:
    one = np.array([[10.0]])
    assert scores(one, one, ["pi"], ["vgg16"])["kendall_tau"] == 0


def test_ties_and_reversals() -> None:
    assert kendall_tau(np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])) == -1
    assert kendall_tau(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(2 / np.sqrt(6))
    assert kendall_tau(np.array([1.0, 1.0]), np.array([1.0, 2.0])) is None
