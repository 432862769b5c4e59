from __future__ import annotations

import numpy as np

from evaluators.devices.fitting.baselines import counts, proportional
from evaluators.devices.fitting.layers import MeasuredKernel


def test_each_precision_has_its_rate_and_gaps_are_filled() -> None:
    count, integer = np.array([1.0, 2.0, 4.0, 8.0]), np.array([False, False, True, True])
    ms = np.array([[3.0, 6.0, 4.0, np.nan], [10.0, np.nan, np.nan, np.nan], [np.nan] * 4])
    found = proportional(count, ms, integer)
    assert np.allclose(found[0], [3, 6, 4, 8])
    assert np.allclose(found[1], [10, 20, 40, 80])
    assert np.allclose(found[2] / count, found[2, 0])


def test_counts() -> None:
    networks = {"a": (MeasuredKernel("conv", 10, 5, 1, 1, False, 0, 1), MeasuredKernel("gemm", 7, 7, 1, 1, False, 0, 1))}
    assert {name: float(value[0]) for name, value in counts(networks, ["a"]).items()} == {"macs": 17, "parameters": 12}
