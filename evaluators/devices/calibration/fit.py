"""From microbenchmark times to ``Rates``: least squares on logarithms, with weak priors where few probes speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.calibration.minimise import minimise
from evaluators.devices.calibration.probes import Probe
from evaluators.devices.kernel_time import Product, slowdown
from evaluators.devices.rates import Rate

__all__ = ["Fitted", "fit"]

Floats = NDArray[np.float64]
_RESIDUAL = 0.1  # how well times of one class are expected to be explained; scales the priors against the data
_COEFFICIENTS = ("gmacs", "half_depth", "half_width", "half_rows", "launch_us", "misaligned_width", "misaligned_depth")


@dataclass(frozen=True)
class Fitted:
    """What the times say.

    Attributes:
        compute: by precision and op class.
        bandwidth_gb_s, launch_us: by op class; ``_int8`` is appended for kernels without arithmetic on 8-bit integers.
        weight_gb_s: how fast weights outside the caches stream.
        overhead_ms: of one inference.
        residuals: ``[probes]`` logarithm of predicted over measured.
    """

    compute: dict[str, dict[str, Rate]]
    bandwidth_gb_s: dict[str, float]
    launch_us: dict[str, float]
    weight_gb_s: float
    overhead_ms: float
    residuals: Floats


def fit(probes: Sequence[Probe], milliseconds: Floats) -> Fitted:
    """Fit every op class by itself, after the fixed cost of an inference and the streaming rate have been read off their own probes."""
    overhead = _overhead(probes, milliseconds)
    kernel_ms = np.maximum(milliseconds - overhead, 0.05 * milliseconds) / [p.repeats for p in probes]
    groups: dict[tuple[str, str], list[int]] = {}
    streaming = 0.0
    for i, probe in enumerate(probes):
        if probe.streams:
            streaming = probe.weights * 4 / (kernel_ms[i] * 1e6)
        elif not probe.fixed_cost:
            groups.setdefault((probe.precision, probe.op_class), []).append(i)
    compute: dict[str, dict[str, Rate]] = {}
    bandwidth: dict[str, float] = {}
    launch: dict[str, float] = {}
    residuals = np.zeros(len(probes))
    for (precision, op_class), rows in groups.items():
        members, times = [probes[i] for i in rows], kernel_ms[rows]
        if members[0].macs:
            rate, start, residuals[rows] = _fit_compute(members, times)
            compute.setdefault(precision, {})[op_class] = rate
            key = op_class if precision == "fp32" else f"{op_class}_{precision}"
        else:
            key = op_class if precision == "fp32" else f"{op_class}_{precision}"
            bandwidth[key], start, residuals[rows] = _fit_bandwidth(members, times)
        launch[key] = start
    bandwidth["default"] = bandwidth["elementwise"]
    launch["default"] = launch["elementwise"]
    return Fitted(compute, bandwidth, launch, streaming, overhead, residuals)


def _overhead(probes: Sequence[Probe], milliseconds: Floats) -> float:
    (one, t_one), (many, t_many) = sorted(((p.repeats, t) for p, t in zip(probes, milliseconds, strict=True) if p.fixed_cost), key=lambda pair: pair[0])
    return float(max((t_one * many - t_many * one) / (many - one), 0.2 * t_one))


def _fit_compute(probes: Sequence[Probe], times: Floats) -> tuple[Rate, float, Floats]:
    macs, weights, outputs = (np.array([getattr(p, name) for p in probes], dtype=np.float64) for name in ("macs", "weights", "outputs"))
    kernels = np.arange(len(probes))
    product = Product.of(probes[0].op_class, kernels, macs, weights, outputs, ((0, False),), np.zeros_like(kernels))

    def predicted(p: Floats) -> Floats:
        found = dict(zip(_COEFFICIENTS, np.exp(p), strict=True))
        gmacs, launch_us = found.pop("gmacs"), found.pop("launch_us")
        return np.asarray(macs * slowdown(product, found) / (gmacs * 1e6) + launch_us * 1e-3)

    best = float(np.max(macs / (times * 1e6)))
    centre, spread = np.log([best * 1.1, 4.0, 3.0, 1.0, 3.0, 1.0, 1.0]), np.array([0.5, 1.5, 1.5, 2.0, 1.0, 0.5, 0.5])
    p = minimise(lambda p: np.concatenate([np.log(predicted(p) / times), _RESIDUAL * (p - centre) / spread]), centre)
    found = {name: float(f"{v:.4g}") for name, v in zip(_COEFFICIENTS, np.exp(p), strict=True)}
    launch_us = found.pop("launch_us")
    rate = Rate(**{name: max(v, 1.0) if name.startswith("misaligned") else v for name, v in found.items()})
    return rate, launch_us, np.log(predicted(p) / times)


def _fit_bandwidth(probes: Sequence[Probe], times: Floats) -> tuple[float, float, Floats]:
    traffic = np.array([(p.inputs + p.outputs) * p.element_bytes for p in probes])

    def predicted(p: Floats) -> Floats:
        gb_s, launch_us = np.exp(p)
        return np.asarray(traffic / (gb_s * 1e6) + launch_us * 1e-3)

    centre, spread = np.log([float(np.max(traffic / (times * 1e6))), 2.0]), np.array([0.5, 1.0])
    p = minimise(lambda p: np.concatenate([np.log(predicted(p) / times), _RESIDUAL * (p - centre) / spread]), centre)
    gb_s, launch_us = (float(f"{v:.4g}") for v in np.exp(p))
    return gb_s, launch_us, np.log(predicted(p) / times)
