"""What whole networks say about the rates of kernels: a factor for each op class and arithmetic.

Kernels beside others find their inputs in other caches, their threads in another state and their neighbours fused with them: times are not additive. The
factors are those that explain the times of whole networks best, each held near 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.calibration.minimise import minimise
from evaluators.devices.kernel_table import KernelTable
from evaluators.devices.rates import PRECISIONS, Rate, Rates
from evaluators.devices.roofline import Roofline

__all__ = ["Correction", "correct"]

Floats = NDArray[np.float64]
Group = tuple[str, str]
_RESIDUAL = 0.04
"""How well the times of networks are expected to be explained; with the spread it decides how far factors may be from 1."""


@dataclass(frozen=True)
class Correction:
    """Corrected rates, and how well they predict networks that they were not corrected by.

    Attributes:
        rates: with the factors in them.
        factors: by op class and arithmetic (``fp32``, ``int8``, ``int8_dynamic``, ``int4``).
        residuals: ``[networks]`` logarithm of predicted over measured time, each network (in all its forms) left out in turn.
    """

    rates: Rates
    factors: Mapping[Group, float]
    residuals: Floats


def correct(model: Callable[[Rates], Roofline], rates: Rates, networks: Sequence[tuple[str, KernelTable]], milliseconds: Floats, spread: float) -> Correction:
    """Fit the factors.

    Args:
        model: the cost model of given rates.
        rates: to be corrected.
        networks: name and kernels of each network in each form, one candidate each.
        milliseconds: ``[networks]``.
        spread: how far a factor is expected from 1: the standard deviation of its logarithm.
    """
    priced = [_by_group(model(rates), table) for _, table in networks]
    groups = sorted({group for times in priced for group in times})
    matrix = np.array([[times.get(group, 0.0) for group in groups] for times in priced])

    def fitted(rows: NDArray[np.bool_]) -> Floats:
        def residuals(p: Floats) -> Floats:
            return np.concatenate([np.log((matrix[rows] @ np.exp(p) + rates.overhead_ms) / milliseconds[rows]) / _RESIDUAL, p / spread])

        return minimise(residuals, np.zeros(len(groups)))

    names = np.array([name for name, _ in networks])
    held_out = np.zeros(len(names))
    for name in np.unique(names):
        # As a user's network is predicted: by factors that it has no part in.
        factors = dict(zip(groups, np.exp(fitted(names != name)), strict=True))
        changed = model(_with(rates, factors))
        for i, (other, table) in enumerate(networks):
            if other == name:
                held_out[i] = np.log((float(changed.times(table).kernel.sum()) + rates.overhead_ms) / milliseconds[i])
    factors = dict(zip(groups, (float(f"{v:.4g}") for v in np.exp(fitted(np.ones(len(names), dtype=np.bool_)))), strict=True))
    return Correction(_with(rates, factors), factors, held_out)


def _by_group(model: Roofline, table: KernelTable) -> dict[Group, float]:
    """Milliseconds of the kernels of each op class and arithmetic."""
    times = model.times(table).kernel[:, 0]
    arithmetic = np.where(table.computes_integers[:, 0], "int8", "fp32").astype(object)
    for product in table.products:
        names = [f"{PRECISIONS[p]}_dynamic" if dynamic and PRECISIONS[p] == "int8" else PRECISIONS[p] for p, dynamic in product.arithmetics]
        arithmetic[product.kernels] = [names[which] for which in product.which[:, 0]]
    found: dict[Group, float] = {}
    for kernel, name, time in zip(table.kernels, arithmetic, times, strict=True):
        found[kernel.op_class, name] = found.get((kernel.op_class, name), 0.0) + float(time)
    return found


def _with(rates: Rates, factors: Mapping[Group, float]) -> Rates:
    """``rates`` with kernels slower by ``factors``."""
    compute: dict[str, dict[str, Rate]] = {precision: dict(table) for precision, table in rates.compute.items()}
    bandwidth, launch = dict(rates.bandwidth_gb_s), dict(rates.launch_us)
    for (op_class, arithmetic), factor in factors.items():
        integer = arithmetic.startswith("int8")
        precision = arithmetic if arithmetic in compute else rates.runs_as(arithmetic.removesuffix("_dynamic"))
        rate = compute.get(precision, {}).get(op_class)
        if rate is not None:
            compute[precision][op_class] = rate.model_copy(update={"gmacs": rate.gmacs / factor})
        if arithmetic in ("fp32", "int8"):
            key = f"{op_class}_int8" if integer else op_class
            bandwidth[key] = rates.bandwidth(op_class, integer=integer) / factor
            launch[key] = rates.launch(op_class, integer=integer) * factor
    # What was priced like floats because nothing else was known must not follow their factor.
    for table, old in ((bandwidth, rates.bandwidth), (launch, rates.launch)):
        for op_class, arithmetic in factors:
            if arithmetic == "fp32" and f"{op_class}_int8" not in table:
                table[f"{op_class}_int8"] = old(op_class, integer=True)
    return rates.model_copy(update={"compute": compute, "bandwidth_gb_s": bandwidth, "launch_us": launch})
