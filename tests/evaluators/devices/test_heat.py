from __future__ import annotations

import numpy as np
import pytest

from evaluators.devices.heat import burst_s, resistance_c_per_w, throttling
from evaluators.devices.profile_tables import Heat

HEAT = Heat(ambient_c=25, limit_c=45, time_constant_s=100)


def test_what_can_be_held_for_ever_ends_at_the_limit() -> None:
    assert resistance_c_per_w(HEAT, 4.0) == pytest.approx(5.0)
    assert 25 + 4.0 * resistance_c_per_w(HEAT, 4.0) == pytest.approx(45)


def test_the_limit_is_reached_sooner_with_more_power() -> None:
    seconds = burst_s(np.array([3.0, 4.0, 5.0, 8.0]), HEAT, 4.0)
    assert np.isinf(seconds[:2]).all()
    # Twice the power warms to the limit when half of the final rise is done.
    assert seconds[3] == pytest.approx(100 * np.log(2))
    assert seconds[2] > seconds[3]


def test_the_clock_falls_until_the_power_can_be_held() -> None:
    share = throttling(np.array([3.0, 4.0, 8.0]), 1.0, 4.0)
    assert share[:2] == pytest.approx([1.0, 1.0])
    assert 1 + 7 * share[2] * (0.5 + 0.5 * share[2]) ** 2 == pytest.approx(4.0, rel=1e-6)
