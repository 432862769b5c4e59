"""What this machine says of its own energy: counters of the processor (RAPL) or of an NVIDIA card (NVML). Neither is readable on most virtual machines."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PowerMeter", "measured_w", "power_meter"]

_POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class PowerMeter:
    """A counter of joules that wraps around at ``wrap_j``; ``name`` says whose."""

    name: str
    read_j: Callable[[], float]
    wrap_j: float

    def spent_j(self, before_j: float) -> float:
        """Joules since the counter stood at ``before_j``, if it wrapped around at most once."""
        difference = self.read_j() - before_j
        return difference if difference >= 0 else difference + self.wrap_j


def power_meter(root: Path = _POWERCAP) -> PowerMeter | None:
    """The first counter that can be read: the packages of the processor, then the first NVIDIA card; None where there is none."""
    return _rapl(root) or _nvml()


def measured_w(meter: PowerMeter, run: Callable[[], object], seconds: float) -> float:
    """Watts while ``run`` is called again and again for about ``seconds``."""
    start, before = time.perf_counter(), meter.read_j()
    while time.perf_counter() - start < seconds:
        run()
    return meter.spent_j(before) / (time.perf_counter() - start)


def _rapl(root: Path) -> PowerMeter | None:
    """Sum over the packages; their parts (cores, memory controller) are inside them."""
    folders = sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1)
    try:
        wraps = [int((folder / "max_energy_range_uj").read_text()) for folder in folders]
        for folder in folders:
            int((folder / "energy_uj").read_text())
    except (OSError, ValueError):
        return None
    if not folders:
        return None

    def read_j() -> float:
        return sum(int((folder / "energy_uj").read_text()) for folder in folders) * 1e-6

    return PowerMeter(f"RAPL, {len(folders)} package{'s' if len(folders) > 1 else ''}", read_j, max(wraps) * 1e-6)


def _nvml() -> PowerMeter | None:
    """``nvmlDeviceGetTotalEnergyConsumption`` of card 0: millijoules since the driver was loaded (NVML API, Volta and later)."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    card, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
    if library.nvmlInit_v2() != 0 or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(card)) != 0:
        return None
    if library.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(millijoules)) != 0:
        return None

    def read_j() -> float:
        library.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(millijoules))
        return millijoules.value * 1e-3

    return PowerMeter("NVML, card 0", read_j, 2.0**64 * 1e-3)
