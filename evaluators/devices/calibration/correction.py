"""What whole networks say about the rates of kernels: a factor for each op class and arithmetic.

Kernels beside others find their inputs in other caches, their threads in another state and their neighbours fused with them: times are not additive. The
factors are those that explain the times of whole networks best, each held near 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.calibration.minimise import minimise
from evaluators.devices.kernel_table import KernelTable
from evaluators.devices.kernel_time import arithmetic_name
from evaluators.devices.rates import Rates
from evaluators.devices.roofline import Roofline

__all__ = ["Correction", "correct"]

Floats = NDArray[np.float64]
_RESIDUAL = 0.04
"""How well the times of networks are expected to be explained; with the spread it decides how far factors may be from 1."""


@dataclass(frozen=True)
class Correction:
    """Corrected rates, and how well they predict networks that they were not corrected by.

    Attributes:
        rates: with the factors as their ``correction``.
        residuals: ``[networks]`` logarithm of predicted over measured time, each network (in all its forms) left out in turn.
    """

    rates: Rates
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

    def with_factors(p: Floats) -> Rates:
        return rates.model_copy(update={"correction": {group: float(f"{factor:.4g}") for group, factor in zip(groups, np.exp(p), strict=True)}})

    names = np.array([name for name, _ in networks])
    held_out = np.zeros(len(names))
    for name in np.unique(names):
        # As a user's network is predicted: by factors that it has no part in.
        changed = model(with_factors(fitted(names != name)))
        for i, (other, table) in enumerate(networks):
            if other == name:
                held_out[i] = np.log((float(changed.times(table).kernel.sum()) + rates.overhead_ms) / milliseconds[i])
    return Correction(with_factors(fitted(np.ones(len(names), dtype=np.bool_))), held_out)


def _by_group(model: Roofline, table: KernelTable) -> dict[str, float]:
    """Milliseconds of the kernels of each op class and arithmetic."""
    times = model.times(table).kernel[:, 0]
    arithmetic = np.where(table.computes_integers[:, 0], "int8", "fp32").astype(object)
    for product in table.products:
        names = [arithmetic_name(p, dynamic=dynamic) for p, dynamic in product.arithmetics]
        arithmetic[product.kernels] = [names[which] for which in product.which[:, 0]]
    found: dict[str, float] = {}
    for kernel, name, time in zip(table.kernels, arithmetic, times, strict=True):
        key = f"{kernel.op_class}:{name}"
        found[key] = found.get(key, 0.0) + float(time)
    return found
