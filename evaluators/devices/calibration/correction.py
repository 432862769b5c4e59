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
from evaluators.devices.kernel_time import ODD, arithmetic_name, odd
from evaluators.devices.rates import Rates
from evaluators.devices.roofline import Roofline

__all__ = ["RESIDUAL", "Correction", "correct", "explained", "grouped_ms", "tabulated", "with_factors"]

Floats = NDArray[np.float64]
RESIDUAL = 0.04
"""How well the times of networks are expected to be explained; with the spread it decides how far factors may be from 1."""
_LATE_SPREAD = 1.0


@dataclass(frozen=True)
class Correction:
    """Corrected rates, and how well they predict networks that they were not corrected by.

    Attributes:
        rates: with the factors as their ``correction``.
        residuals: ``[networks]`` logarithm of predicted over measured time, each network (in all its forms) left out in turn.
    """

    rates: Rates
    residuals: Floats


def correct(
    model: Callable[[Rates], Roofline],
    rates: Rates,
    networks: Sequence[tuple[str, KernelTable]],
    milliseconds: Floats,
    spread: float,
) -> Correction:
    """Fit the factors.

    Args:
        model: the cost model of given rates.
        rates: to be corrected.
        networks: name and kernels of each network in each form, one candidate each.
        milliseconds: ``[networks]``.
        spread: how far a factor is expected from 1: the standard deviation of its logarithm.
    """
    # What arithmetic waits for weights depends on what else uses the caches, so that it is nearly free.
    prompt, kinds = rates.model_copy(update={"late_weights": {}}), sorted(rates.late_weights)
    priced = [dict(grouped_ms(model(prompt), table)) for _, table in networks]
    for (_, table), times in zip(networks, priced, strict=True):
        total = model(prompt).times(table).kernel.sum(axis=0)
        for kind in kinds:
            waiting = prompt.model_copy(update={"late_weights": {kind: rates.late_weights[kind]}})
            times[kind] = model(waiting).times(table).kernel.sum(axis=0) - total
    groups, matrix = tabulated(priced, last=kinds)
    prior = np.diag([_LATE_SPREAD**2 if group in kinds else spread**2 for group in groups])

    def fitted(rows: NDArray[np.bool_]) -> Rates:
        logs = explained(matrix[rows], rates.overhead_ms, milliseconds[rows], prior, RESIDUAL)[0]
        late = {kind: float(f"{rates.late_weights[kind] * np.exp(log):.4g}") for kind, log in zip(groups, logs, strict=True) if kind in kinds}
        count = len(groups) - len(kinds)
        return with_factors(rates, groups[:count], logs[:count]).model_copy(update={"late_weights": late})

    names = np.array([name for name, _ in networks])
    held_out = np.zeros(len(names))
    for name in np.unique(names):
        # As a user's network is predicted: by factors that it has no part in.
        changed = model(fitted(names != name))
        for i, (other, table) in enumerate(networks):
            if other == name:
                held_out[i] = np.log((float(changed.times(table).kernel.sum()) + rates.overhead_ms) / milliseconds[i])
    return Correction(fitted(np.ones(len(names), dtype=np.bool_)), held_out)


def explained(parts: Floats, fixed: float, measured: Floats, prior: Floats, residual: Floats | float) -> tuple[Floats, Floats]:
    """Logarithms of factors, ``[groups]``, that make sums of parts most like what was measured, and their covariance.

    Args:
        parts: ``[rows, groups]`` what each group is believed to contribute.
        fixed: added to every row, and not in doubt.
        measured: ``[rows]``.
        prior: ``[groups, groups]`` covariance of the logarithms before anything was measured; their mean is 0.
        residual: standard deviation of the logarithm of a measurement whose factors are known, ``[rows]`` or of all.
    """
    known = np.linalg.inv(prior)
    # Multiplied by its transpose it is the inverse of the prior.
    whitening = np.linalg.cholesky(known).T

    def residuals(p: Floats) -> Floats:
        return np.concatenate([np.log((parts @ np.exp(p) + fixed) / measured) / residual, whitening @ p])

    found = minimise(residuals, np.zeros(parts.shape[1]))
    weighted = parts * np.exp(found)
    shares = weighted / (weighted.sum(axis=1, keepdims=True) + fixed)
    slopes = shares / np.broadcast_to(residual, measured.shape)[:, None]
    return found, np.linalg.inv(known + slopes.T @ slopes)


def tabulated(priced: Sequence[Mapping[str, Floats]], last: Sequence[str] = ()) -> tuple[list[str], Floats]:
    """The groups that occur, sorted, those in ``last`` behind the others; and what each takes of the first candidate, ``[networks, groups]``."""
    groups = [*sorted({group for times in priced for group in times} - set(last)), *last]
    return groups, np.array([[float(times[group][0]) if group in times else 0.0 for group in groups] for times in priced])


def with_factors(rates: Rates, groups: Sequence[str], logs: Floats) -> Rates:
    """``rates`` multiplied by factors, those that they have already among them."""
    factors = {group: rates.correction.get(group, 1.0) * float(factor) for group, factor in zip(groups, np.exp(logs), strict=True)}
    return rates.model_copy(update={"correction": {**rates.correction, **{group: float(f"{factor:.4g}") for group, factor in factors.items()}}})


def grouped_ms(model: Roofline, table: KernelTable) -> Mapping[str, Floats]:
    """Milliseconds of the kernels of each op class and arithmetic, ``CLASS:ARITHMETIC``, ``[candidates]``."""
    times = model.times(table).kernel
    groups = np.array([[f"{kernel.op_class}:fp32"] for kernel in table.kernels], dtype=object).repeat(times.shape[1], axis=1)
    integers = np.array([[f"{kernel.op_class}:int8"] for kernel in table.kernels], dtype=object)
    groups = np.where(table.computes_integers, integers, groups)
    for product in model.products(table):
        names = [arithmetic_name(p, dynamic=dynamic) for p, dynamic in product.arithmetics]
        groups[product.kernels] = np.array([f"{product.op_class}:{name}" for name in names], dtype=object)[product.which]
        if model.rates.distinguishes(product.op_class + ODD):
            floats = groups[product.kernels] == f"{product.op_class}:fp32"
            groups[product.kernels] = np.where(floats & odd(product), f"{product.op_class}{ODD}:fp32", groups[product.kernels])
    found: dict[str, Floats] = {}
    for row, ms in zip(groups, times, strict=True):
        for group in dict.fromkeys(row):
            found[group] = found.get(group, np.zeros(times.shape[1])) + np.where(row == group, ms, 0.0)
    return found
