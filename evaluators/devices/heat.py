"""A first-order thermal model: how long a device keeps its speed, and which it holds for ever.

The device warms towards ``ambient + power x resistance`` with one time constant. The resistance is that at which the power the device can hold for ever
(``sustained_w`` of its profile) ends exactly at the limit temperature. At the limit it lowers its clock until it draws no more than that.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.power_modes import voltage
from evaluators.devices.profile_tables import Heat

__all__ = ["burst_s", "resistance_c_per_w", "throttling"]

Floats = NDArray[np.float64]
_LEAST_CLOCK = 0.05
_STEPS = 30


def resistance_c_per_w(heat: Heat, sustained_w: float) -> float:
    """Kelvin a watt between the device and the air around it."""
    return (heat.limit_c - heat.ambient_c) / sustained_w


def burst_s(power_w: Floats, heat: Heat, sustained_w: float) -> Floats:
    """Seconds at ``power_w`` from ambient temperature until the limit is reached; infinite where it never is."""
    hot = power_w > sustained_w
    share = np.where(hot, sustained_w / np.where(hot, power_w, 2 * sustained_w), 0.5)
    return np.where(hot, -heat.time_constant_s * np.log1p(-share), np.inf)


def throttling(power_w: Floats, idle_w: float, sustained_w: float) -> Floats:
    """The share of its clock, of at most 1, at which work that draws ``power_w`` at full clock draws ``sustained_w``.

    Power at rest stays; the rest falls with the clock and the square of the voltage.
    """
    work = np.maximum(power_w - idle_w, 0.0)
    low, high = np.full_like(work, _LEAST_CLOCK), np.ones_like(work)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        over = idle_w + work * middle * voltage(middle) ** 2 > sustained_w
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return np.where(power_w > sustained_w, low, 1.0)
