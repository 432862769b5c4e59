"""From microbenchmark times to ``Rates``: least squares on logarithms, with weak priors where few probes speak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.calibration.minimise import minimise
from evaluators.devices.calibration.probes import Probe
from evaluators.devices.kernel_time import CONVOLUTIONS, ODD, Product, odd, slowdown
from evaluators.devices.rates import Rate

__all__ = ["Fitted", "fit"]

Floats = NDArray[np.float64]
_RESIDUAL = 0.1  # how well times of one class are expected to be explained; scales the priors against the data
_FIXED = 1e-6  # what has no meaning for a class
_LEAST_SHARE = 0.02  # of a long chain that its further kernels take at least: what noise may leave of a difference
_COEFFICIENTS = {
    # What is expected, and the standard deviation of its logarithm; the speed's is relative to the best probe's.
    "gmacs": (1.1, 0.5),
    "half_depth": (4.0, 1.5),
    "half_width": (3.0, 1.5),
    "half_rows": (1.0, 2.0),
    "half_side": (0.3, 2.0),
    "launch_us": (3.0, 1.0),
    "misaligned_width": (1.2, 1.0),
    "misaligned_depth": (1.2, 1.0),
}


@dataclass(frozen=True)
class Fitted:
    """What the times say.

    Attributes:
        compute: by precision and op class, ``CLASS_odd`` of floats in channels that are not whole blocks.
        bandwidth_gb_s, launch_us: by op class; ``_int8`` is appended for kernels on 8-bit integers.
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


def fit(probes: Sequence[Probe], short_ms: Floats, long_ms: Floats) -> Fitted:
    """Fit every op class by itself, after the fixed cost of an inference and the streaming rate have been read off their own probes.

    Args:
        probes: the microbenchmarks.
        short_ms: ``[probes]`` milliseconds of their short models.
        long_ms: of their long ones.
    """
    kernel_ms = np.maximum(long_ms - short_ms, _LEAST_SHARE * long_ms) / [p.repeats for p in probes]
    groups: dict[tuple[str, str], list[int]] = {}
    streaming, overhead = 0.0, 0.0
    for i, probe in enumerate(probes):
        if probe.streams:
            streaming = probe.weights[0] * 4 / (kernel_ms[i] * 1e6)
        elif probe.fixed_cost:
            overhead = float(max(short_ms[i] - kernel_ms[i], 0.2 * short_ms[i]))
        else:
            groups.setdefault((probe.precision, probe.op_class + _form(probe)), []).append(i)
    compute: dict[str, dict[str, Rate]] = {}
    bandwidth: dict[str, float] = {}
    launch: dict[str, float] = {}
    residuals = np.zeros(len(probes))
    for (precision, op_class), rows in groups.items():
        members, times = [probes[i] for i in rows], kernel_ms[rows]
        key = op_class if precision == "fp32" else f"{op_class}_{precision}"
        if members[0].macs[0]:
            rate, start, residuals[rows] = _fit_compute(members, times)
            compute.setdefault(precision, {})[op_class] = rate
        else:
            bandwidth[key], start, residuals[rows] = _fit_bandwidth(members, times)
        launch[key] = start
    bandwidth["default"] = bandwidth["elementwise"]
    launch["default"] = launch["elementwise"]
    return Fitted(compute, bandwidth, launch, streaming, overhead, residuals)


def _form(probe: Probe) -> str:
    """Floats in channels that are not whole blocks are computed by other kernels."""
    return ODD if probe.macs[0] and probe.precision == "fp32" and bool(odd(_product([probe])[0]).any()) else ""


def _product(probes: Sequence[Probe]) -> tuple[Product, NDArray[np.int64]]:
    """The kernels of all probes, and the probe that each belongs to."""
    macs, weights, outputs = (np.concatenate([getattr(p, name) for p in probes]) for name in ("macs", "weights", "outputs"))
    kernels = np.arange(len(macs))
    owner = np.repeat(np.arange(len(probes)), [len(p.macs) for p in probes])
    return Product.of(probes[0].op_class, kernels, macs, weights, outputs, ((0, False),), np.zeros_like(kernels)), owner


def _fit_compute(probes: Sequence[Probe], times: Floats) -> tuple[Rate, float, Floats]:
    product, owner = _product(probes)
    macs = np.bincount(owner, product.macs)

    def predicted(p: Floats) -> Floats:
        found = dict(zip(_COEFFICIENTS, np.exp(p), strict=True))
        gmacs, launch_us = found.pop("gmacs"), found.pop("launch_us")
        return np.asarray(np.bincount(owner, product.macs * slowdown(product, found) / (gmacs * 1e6) + launch_us * 1e-3))

    expected, spread = (np.array(column) for column in zip(*_COEFFICIENTS.values(), strict=True))
    centre = np.log(expected)
    centre[0] += np.log(np.max(macs / (times * 1e6)))
    if product.op_class not in CONVOLUTIONS:
        spread[list(_COEFFICIENTS).index("half_side")] = _FIXED
        centre[list(_COEFFICIENTS).index("half_side")] = np.log(_FIXED)
    p = minimise(lambda p: np.concatenate([np.log(predicted(p) / times), _RESIDUAL * (p - centre) / spread]), centre)
    found = {name: float(f"{v:.4g}") for name, v in zip(_COEFFICIENTS, np.exp(p), strict=True)}
    launch_us = found.pop("launch_us")
    rate = Rate(**{name: max(v, 1.0) if name.startswith("misaligned") else v for name, v in found.items()})
    return rate, launch_us, np.log(predicted(p) / times)


def _fit_bandwidth(probes: Sequence[Probe], times: Floats) -> tuple[float, float, Floats]:
    traffic = np.array([(sum(p.inputs) + sum(p.outputs)) * p.element_bytes for p in probes])

    def predicted(p: Floats) -> Floats:
        gb_s, launch_us = np.exp(p)
        return np.asarray(traffic / (gb_s * 1e6) + launch_us * 1e-3)

    centre, spread = np.log([float(np.max(traffic / (times * 1e6))), 2.0]), np.array([0.5, 1.0])
    p = minimise(lambda p: np.concatenate([np.log(predicted(p) / times), _RESIDUAL * (p - centre) / spread]), centre)
    gb_s, launch_us = (float(f"{v:.4g}") for v in np.exp(p))
    return gb_s, launch_us, np.log(predicted(p) / times)
