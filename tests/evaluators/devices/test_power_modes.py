from __future__ import annotations

import pytest

from evaluators.devices.power_modes import at_clock, voltage
from evaluators.devices.rates import rates_of


def test_half_the_clock_is_half_the_speed_at_less_energy_but_memory_keeps_its_pace() -> None:
    full = rates_of("raspberry-pi-5", "cpu", "onnxruntime", None)
    half = at_clock(full, 0.5)
    assert half.rate("fp32", "conv").gmacs == pytest.approx(full.rate("fp32", "conv").gmacs / 2)
    assert half.launch("conv") == pytest.approx(2 * full.launch("conv"))
    assert half.overhead_ms == pytest.approx(2 * full.overhead_ms)
    assert half.weight_gb_s == full.weight_gb_s
    assert half.pj_per_mac["fp32"] == pytest.approx(full.pj_per_mac["fp32"] * voltage(0.5) ** 2)
    assert at_clock(full, 1.0) == full
