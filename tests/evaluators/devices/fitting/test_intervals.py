from __future__ import annotations

import numpy as np
import pytest

from evaluators.devices.fitting.intervals import conformal_factor, scale


def test_nine_of_ten_fall_inside_and_fresh_ones_do_too() -> None:
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.05, 0.5, 2000)
    factor = conformal_factor(rng.standard_normal(2000) * scales, scales)
    assert factor == pytest.approx(1.645, rel=0.08)
    assert (np.abs(rng.standard_normal(2000) * scales) < factor * scales).mean() == pytest.approx(0.9, abs=0.02)


def test_few_errors_give_the_largest_and_none_gives_nothing() -> None:
    assert conformal_factor(np.array([0.1, -0.4]), np.array([1.0, 1.0])) == pytest.approx(0.4)
    assert np.isnan(conformal_factor(np.array([np.nan]), np.array([1.0])))


def test_work_that_little_is_known_of_makes_it_wider() -> None:
    spread = np.diag([0.01, 1.0])
    assert scale(np.array([0.1, 0.9]), spread, 0.1) > 3 * scale(np.array([0.9, 0.1]), spread, 0.1)
