"""One calibration: probe, check that the machine was quiet enough, fit."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydantic

from compressors.errors import ComparetoError
from evaluators.devices.calibration.fit import fit
from evaluators.devices.calibration.probes import probes
from evaluators.devices.calibration.timing import time_probes
from evaluators.devices.rates import Rates, rates_of

__all__ = ["CALIBRATION_VERSION", "Calibration", "NoisyMachineError", "calibrate", "identity"]

CALIBRATION_VERSION = 1
_SPREAD_LIMIT = 0.25


class NoisyMachineError(ComparetoError):
    """The machine's timings vary too much to be fitted."""


class Calibration(pydantic.BaseModel):
    """What a calibration found, as it is cached.

    Attributes:
        machine: what it holds for.
        rates: the fitted rates.
        spread: 75th percentile over the probes of how far the median round lies above the quiet one.
        residual: root mean square of the logarithm of predicted over measured.
        memory_bytes: of the machine.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    machine: dict[str, str]
    rates: Rates
    spread: float
    residual: float
    memory_bytes: float


def identity(threads: int) -> dict[str, str]:
    """What a calibration depends on."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "threads": str(threads),
        "system": f"{platform.system()} {platform.machine()}",
        "onnxruntime": version("onnxruntime"),
        "calibration": str(CALIBRATION_VERSION),
    }


def calibrate(threads: int, progress: Callable[[str], None]) -> Calibration:
    """Time the microbenchmarks with ``threads`` threads and fit them; 15 to 30 seconds.

    Raises:
        NoisyMachineError: the timings vary too much.
    """
    benchmarks = tuple(probes())
    milliseconds, spreads = time_probes(benchmarks, threads, progress)
    spread = float(np.percentile(spreads, 75))
    if spread > _SPREAD_LIMIT:
        raise NoisyMachineError(f"timings vary by {spread:.0%} between rounds, more than the {_SPREAD_LIMIT:.0%} that can be calibrated")
    fitted = fit(benchmarks, milliseconds)
    fp32 = fitted.compute["fp32"]
    # No public figure is known for an unknown machine's energy: the profile's stay.
    energy = rates_of("x86-server-core", "cpu", "onnxruntime", threads)
    rates = Rates(
        compute={
            "fp32": fp32,
            "int8": {**fp32, **fitted.compute["int8"]},
            "int8_dynamic": fitted.compute["int8_dynamic"],
            "int4": {**fp32, **fitted.compute["int4"]},
        },
        bandwidth_gb_s=fitted.bandwidth_gb_s,
        weight_gb_s=fitted.weight_gb_s,
        cache_bytes=_last_level_cache(),
        launch_us=fitted.launch_us,
        overhead_ms=fitted.overhead_ms,
        memory_bytes=energy.memory_bytes,
        fallback={"fp16": "fp32"},
        idle_w=energy.idle_w,
        pj_per_mac=energy.pj_per_mac,
        pj_per_byte=energy.pj_per_byte,
    )
    residual = float(np.sqrt(np.mean(fitted.residuals**2)))
    return Calibration(machine=identity(threads), rates=rates, spread=spread, residual=residual, memory_bytes=_memory())


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    keys = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
    found = dict(reversed([(part[0].strip(), part[2].strip()) for part in (line.partition(":") for line in lines)]))
    return " ".join(found[key] for key in keys if key in found) or platform.machine()


def _last_level_cache() -> float:
    """Bytes; 0 where the system does not say."""
    sizes = [0.0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="utf-8").strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(float(text[:-1]) * 1024)
    return max(sizes)


def _memory() -> float:
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
