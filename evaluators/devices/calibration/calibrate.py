"""One calibration: time microbenchmarks and whole networks, check that the machine was quiet enough, fit."""

from __future__ import annotations

import math
import os
import platform
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic
from numpy.typing import NDArray

from compressors.errors import ComparetoError, UserError
from compressors.graph.exits import STAGE
from evaluators.devices.calibration.fit import fit
from evaluators.devices.calibration.probes import Probe, probes
from evaluators.devices.calibration.timing import SPREAD_LIMIT, Rounds, seconds, spread_of, time_runs
from evaluators.devices.kernel_time import ODD
from evaluators.devices.rates import Rates, rates_of

if TYPE_CHECKING:
    from evaluators.devices.kernel_table import KernelTable

    Prepared = tuple[list[tuple[str, KernelTable]], list[Callable[[], object]]]

__all__ = ["CALIBRATION_VERSION", "Calibration", "NoisyMachineError", "calibrate", "check_spreads", "covering", "identity", "machine_memory", "restart_us"]

CALIBRATION_VERSION = 4
_PACKAGES = {"onnxruntime": "onnxruntime", "litert": "ai-edge-litert", "executorch": "executorch"}
_FACTOR_SPREAD = 0.3
_RESTARTS = 41
_ELSEWHERE = 0.08
"""How much further a user's network may lie than one that was left out, beside others of its kind and in the same minutes: the quantile alone held 63 % of 60
variants that no calibration had seen (experiments/benchmarks/host_latency.py)."""
_LEAST_RESIDUAL = 0.25
"""Where no whole network was timed: they are explained less well than the microbenchmarks that the rates were fitted to."""


class NoisyMachineError(ComparetoError):
    """The machine's timings vary too much to be fitted."""


class Calibration(pydantic.BaseModel):
    """What a calibration found, as it is cached.

    Attributes:
        machine: what it holds for.
        rates: the fitted rates.
        spread: 75th percentile over the models of how far the median round lies above the quiet one.
        residual: root mean square of the logarithm of predicted over measured, of whole networks that were left out of the fit, else of the microbenchmarks.
        half_width: logarithm of the factor by which the interval of a latency reaches up and down.
        networks: how many whole networks, in all their forms, were timed.
        memory_bytes: of the machine.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    machine: dict[str, str]
    rates: Rates
    spread: float
    residual: float
    half_width: float
    networks: int
    memory_bytes: float


def identity(threads: int, runtime: str = "onnxruntime") -> dict[str, str]:
    """What a calibration depends on.

    Raises:
        UserError: the runtime is not installed.
    """
    try:
        installed = version(_PACKAGES[runtime])
    except PackageNotFoundError as error:
        raise UserError(f'{runtime} is not installed: pip install "compareto[{runtime}]"') from error
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count() or 1),
        "threads": str(threads),
        "system": f"{platform.system()} {platform.machine()}",
        runtime: installed,
        "calibration": str(CALIBRATION_VERSION),
    }


def calibrate(threads: int, progress: Callable[[str], None], nearest: str, *, networks: bool = False, keep: Path | None = None) -> Calibration:
    """Time ONNX Runtime with ``threads`` threads and fit: 15 to 30 seconds, with whole networks a few minutes; on a busy machine twice as long.

    Args:
        threads: of a session.
        progress: receives a line at a time.
        nearest: profile whose energy and memory stand in for those of this machine.
        networks: time whole networks as well, and correct the rates by them.
        keep: where finished rounds are kept until the calibration is complete.

    Raises:
        NoisyMachineError: the timings vary too much.
    """
    with tempfile.TemporaryDirectory(prefix="compareto-calibration-") as folder:
        # All is made before anything is timed: machines change their pace within minutes.
        prepared = _prepared(threads, Path(folder), progress) if networks else None
        return _calibrated(threads, progress, nearest, prepared, Rounds(keep, identity(threads)))


def _calibrated(threads: int, progress: Callable[[str], None], nearest: str, prepared: Prepared | None, rounds: Rounds) -> Calibration:
    benchmarks = tuple(probes())
    short_ms, long_ms, spreads = time_probes(benchmarks, threads, rounds, progress)
    check_spreads(spreads)
    fitted = fit(benchmarks, short_ms, long_ms)
    fp32 = fitted.compute["fp32"]
    # The forms of odd channels are those of floats alone.
    whole = {op_class: rate for op_class, rate in fp32.items() if not op_class.endswith(ODD)}
    # No public figure is known for an unknown machine's energy: the profile's stay.
    energy = rates_of(nearest, "cpu", "onnxruntime", threads)
    rates = Rates(
        compute={
            "fp32": fp32,
            "int8": {**whole, **fitted.compute["int8"]},
            "int8_dynamic": fitted.compute["int8_dynamic"],
            "int4": {**whole, **fitted.compute["int4"]},
        },
        bandwidth_gb_s=fitted.bandwidth_gb_s,
        weight_gb_s=fitted.weight_gb_s,
        cache_bytes=_last_level_cache(),
        late_weights={"convolution": 1.0, "product": 0.5},
        launch_us={**fitted.launch_us, STAGE: restart_us(benchmarks, threads)},
        overhead_ms=fitted.overhead_ms,
        memory_bytes=energy.memory_bytes,
        weight_copies=energy.weight_copies,
        fallback={"fp16": "fp32"},
        idle_w=energy.idle_w,
        pj_per_mac=energy.pj_per_mac,
        pj_per_byte=energy.pj_per_byte,
    )
    spread, residual, count = spread_of(spreads), float(np.sqrt(np.mean(fitted.residuals**2))), 0
    half_width = 1.645 * max(residual, _LEAST_RESIDUAL)
    if prepared is not None:
        rates, residuals, more = _corrected(rates, prepared, rounds, progress)
        spread, residual, count = max(spread, more), float(np.sqrt(np.mean(residuals**2))), len(residuals)
        half_width = covering(residuals)
    rounds.close()
    return Calibration(
        machine=identity(threads), rates=rates, spread=spread, residual=residual, half_width=half_width, networks=count, memory_bytes=machine_memory()
    )


def time_probes(
    benchmarks: Sequence[Probe], threads: int, rounds: Rounds, progress: Callable[[str], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of the short and the long model of each microbenchmark, and the spread of all of them; see ``time_runs``."""
    runs = _opened([*(p.short for p in benchmarks), *(p.long for p in benchmarks)], threads)
    milliseconds, spreads = time_runs(runs, "kernels", rounds, progress)
    return milliseconds[: len(benchmarks)], milliseconds[len(benchmarks) :], spreads


def restart_us(benchmarks: Sequence[Probe], threads: int) -> float:
    """Microseconds of a session with one small kernel when another one has used the caches: a stage of a model with exits never finds them as it left them."""
    other = next(p.long for p in benchmarks if p.streams)
    small = next(p.short for p in benchmarks if p.fixed_cost)
    evict, start = _opened([other, small], threads)
    taken = []
    for _ in range(_RESTARTS):
        evict()
        taken.append(seconds(start))
    return float(f"{1e6 * float(np.median(taken)):.4g}")


def _opened(models: Sequence[tuple[bytes, Any]], threads: int) -> list[Callable[[], object]]:
    """One inference of each."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # The models take turns: threads of the one before would spin into the run of the next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return [partial(onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run, None, feed) for model, feed in models]


def _prepared(threads: int, folder: Path, progress: Callable[[str], None]) -> Prepared:
    """Whole networks: what is priced, and what is timed."""
    from compressors.targets import target_named
    from evaluators.devices.calibration.networks import variants
    from evaluators.devices.calibration.preparing import prepared_runs

    return prepared_runs(variants(), target_named("onnxruntime"), threads, folder, progress)


def _corrected(rates: Rates, prepared: Prepared, rounds: Rounds, progress: Callable[[str], None]) -> tuple[Rates, NDArray[np.float64], float]:
    """Rates corrected by whole networks; their residuals, left out in turn; their spread."""
    from compressors.targets import target_named
    from evaluators.devices.calibration.correction import correct
    from evaluators.devices.roofline import Interval, Roofline

    tables, runs = prepared
    target = target_named("onnxruntime")
    milliseconds, spreads = time_runs(runs, "networks", rounds, progress)
    check_spreads(spreads)

    def model(changed: Rates) -> Roofline:
        return Roofline("this-host", 1, changed, target, "host-calibrated", Interval((1, 1), (1, 1), (1, 1)))

    found = correct(model, rates, tables, milliseconds, _FACTOR_SPREAD)
    return found.rates, found.residuals, spread_of(spreads)


def check_spreads(spreads: NDArray[np.float64]) -> None:
    """Refuse a machine that was not quiet.

    Raises:
        NoisyMachineError: more than a quarter of the models vary too much between rounds.
    """
    spread = spread_of(spreads)
    if spread > SPREAD_LIMIT:
        raise NoisyMachineError(f"timings vary by {spread:.0%} between rounds, more than the {SPREAD_LIMIT:.0%} that can be calibrated")


def covering(residuals: NDArray[np.float64]) -> float:
    """What 90 % of further networks are expected to stay within: the split-conformal quantile, and ``_ELSEWHERE``."""
    ranked = np.sort(np.abs(residuals))
    quantile = float(ranked[min(len(ranked) - 1, math.ceil(0.9 * (len(ranked) + 1)) - 1)])
    return math.hypot(quantile, _ELSEWHERE)


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


def machine_memory() -> float:
    """Bytes."""
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
