"""The fit: every setting's costs are drawn from a prior that is learned from all settings together.

The logarithm of a setting's costs is normally distributed about a mean that depends on the number of threads, with one covariance for all settings
(a hierarchical model, empirical Bayes by expectation maximisation); the logarithm of a latency errs with a variance that is the same for all, and far
errors count linearly [Huber1964]. So a device with few rows is completed by what devices have in common: fast cores are fast at everything, integers
are gained from or not. The mean itself has a prior, ``Form.typical`` costs times one speed: two dozen networks do not determine twenty costs.

[Huber1964] Huber: Robust estimation of a location parameter. Annals of Mathematical Statistics 35.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.forms import PROCESSOR, Form
from evaluators.devices.fitting.setting import Setting

__all__ = ["Fit", "Prior", "covariates", "fit", "posterior"]

Floats = NDArray[np.float64]
_SPEED, _LAUNCH = 3.0, 0.3
"""Standard deviations of the prior's mean: of a device's speed as a whole, of the cost of a launch."""
_THREADS = (-0.7, -0.3, 0.0)
_THREADS_SPEED, _THREADS_RATIO = 0.3, 0.1
"""What doubling the threads is expected to add to the logarithm of the costs of arithmetic, of memory and of launches, and how surely."""
_BETWEEN_SPEED = 1.0
"""How settings differ in speed before any is seen."""
_FAR = 2.0
_ITERATIONS, _FIRST_UPDATE = 30, 4


@dataclass(frozen=True)
class Prior:
    """What settings have in common.

    Attributes:
        mean: ``[covariates, features]`` of the logarithm of the costs.
        covariance: ``[features, features]`` between settings.
        residual: standard deviation of the logarithm of a latency.
        spread: ``[features, features]`` mean covariance of what is known of a setting's costs once it was measured.
    """

    mean: Floats
    covariance: Floats
    residual: float
    spread: Floats


@dataclass(frozen=True)
class Fit:
    """The prior and, ``[settings, features]``, the logarithm of every setting's costs with its covariances ``[settings, features, features]``."""

    prior: Prior
    costs: Floats
    covariances: Floats


def covariates(settings: Sequence[Setting]) -> Floats:
    """``[settings, covariates]``: 1 and the binary logarithm of the threads, which do not count on an accelerator."""
    threads = np.array([s.threads if s.unit == "cpu" else 1 for s in settings], dtype=np.float64)
    return np.stack([np.ones_like(threads), np.log2(threads)], axis=1)


def fit(work: Floats, ms: Floats, about: Floats, form: Form = PROCESSOR) -> Fit:
    """Fit the prior and all settings.

    Args:
        work: ``[networks, features]``.
        ms: ``[settings, networks]``, NaN where unknown.
        about: ``[settings, covariates]``.
        form: what the features are.
    """
    start, precision = _prior_of_the_mean(about.shape[1], form)
    known = np.isfinite(ms).any(axis=1)
    typical, count = np.log(list(form.typical.values())), len(form.typical)
    offset = np.nanmedian(np.log(ms[known]) - np.log(work @ np.exp(typical)), axis=1)
    costs = typical + np.full(len(ms), offset.mean())[:, None]
    costs[known] = typical + offset[:, None]
    unit, ratio = np.ones((count, count)), np.eye(count)
    spread_of_ratios, weight = form.between
    between = _BETWEEN_SPEED**2 * unit + spread_of_ratios**2 * ratio
    covariance, residual = between, 0.15
    mean = start
    for step in range(_ITERATIONS):
        inverse = np.linalg.inv(covariance)
        information, target, errors, weights, slopes = _linearised(work, ms, costs, residual)
        # A trust region around the present costs, which closes in as they settle.
        trust = 0.5**step * (np.einsum("bff->bf", information)[:, :, None] * ratio)
        information_, target_ = information + trust, target + np.einsum("bfg,bg->bf", trust, costs)
        covariances = np.asarray(np.linalg.inv(information_ + inverse), dtype=np.float64)
        mean = _mean(about, np.asarray(inverse, dtype=np.float64), covariances, target_, start, precision)
        expected = about @ mean
        costs = costs + np.clip(np.einsum("bfg,bg->bf", covariances, target_ + expected @ inverse) - costs, -1.5, 1.5)
        if step >= _FIRST_UPDATE:
            spread = np.linalg.inv(information + inverse)
            deviation = costs - expected
            covariance = (deviation.T @ deviation + spread.sum(axis=0) + weight * between) / (len(ms) + weight)
            used = np.einsum("bnf,bfg,bng,bn->", slopes, spread, slopes, weights, optimize=True)
            free = max(np.isfinite(ms).sum() - used, 1.0)
            residual = float(np.clip(np.sqrt((np.minimum(np.abs(errors), 3 * residual) ** 2).sum() / free), 0.03, 0.5))
    covariances = np.linalg.inv(_linearised(work, ms, costs, residual)[0] + np.linalg.inv(covariance))
    return Fit(Prior(mean, covariance, residual, covariances.mean(axis=0)), costs, covariances)


def posterior(prior: Prior, work: Floats, ms: Floats, about: Floats) -> tuple[Floats, Floats]:
    """Costs of settings of which only some networks were measured, given the prior: their logarithm and its covariances."""
    expected = about @ prior.mean
    inverse = np.linalg.inv(prior.covariance)
    costs = expected.copy()
    known = np.isfinite(ms).any(axis=1)
    if known.any():
        costs[known] += np.nanmedian(np.log(ms[known]) - np.log(np.exp(costs[known]) @ work.T), axis=1)[:, None]
    for step in range(_ITERATIONS):
        information, target, *_ = _linearised(work, ms, costs, prior.residual, far=np.inf)
        trust = 0.5**step * (np.einsum("bff->bf", information)[:, :, None] * np.eye(len(inverse)))
        covariances = np.linalg.inv(information + trust + inverse)
        pulled = target + np.einsum("bfg,bg->bf", trust, costs) + expected @ inverse
        costs = costs + np.clip(np.einsum("bfg,bg->bf", covariances, pulled) - costs, -1.5, 1.5)
    return costs, np.linalg.inv(_linearised(work, ms, costs, prior.residual, far=np.inf)[0] + inverse)


def shares(work: Floats, costs: Floats) -> Floats:
    """``[settings, networks, features]``: which share of a network's time each kind of work takes."""
    parts = work[None] * np.exp(costs)[:, None]
    return np.asarray(parts / parts.sum(axis=2, keepdims=True))


def _linearised(work: Floats, ms: Floats, costs: Floats, residual: float, far: float = _FAR) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """Gauss-Newton: what the latencies say about the costs, as information and information times costs; errors, weights and slopes beside it."""
    known = np.isfinite(ms)
    slopes = shares(work, costs)
    errors = np.where(known, np.log(np.where(known, ms, 1.0)) - np.log(np.exp(costs) @ work.T), 0.0)
    weights = np.where(known, np.minimum(1.0, far * residual / np.maximum(np.abs(errors), 1e-9)), 0.0) / residual**2
    weighted = slopes * weights[:, :, None]
    information = np.einsum("bnf,bng->bfg", weighted, slopes, optimize=True)
    target = np.einsum("bfg,bg->bf", information, costs) + np.einsum("bnf,bn->bf", weighted, errors)
    return information, target, errors, weights, slopes


def _mean(about: Floats, inverse: Floats, covariances: Floats, target: Floats, start: Floats, precision: Floats) -> Floats:
    """The prior's mean given what is known of every setting, the settings' own costs integrated out."""
    left = precision.copy()
    lost = np.einsum("fg,bgh,hi->bfi", inverse, covariances, inverse, optimize=True)
    pairs = np.einsum("bp,bq->bpq", about, about)
    left += (np.einsum("bpq,fg->pfqg", pairs, inverse) - np.einsum("bpq,bfg->pfqg", pairs, lost)).reshape(left.shape)
    right = np.einsum("bp,fg,bgh,bh->pf", about, inverse, covariances, target, optimize=True).ravel() + precision @ start.ravel()
    return np.asarray(np.linalg.solve(left, right).reshape(start.shape))


def _prior_of_the_mean(size: int, form: Form) -> tuple[Floats, Floats]:
    """Mean, ``[covariates, features]``, and precision of the prior's mean."""
    fixed = ("launch", "launch.int8", "inference")
    kinds = [0 if name.startswith("macs") else 2 if name in fixed else 1 for name in form.features]
    count = len(kinds)
    start = np.zeros((size, count))
    start[0] = np.log(list(form.typical.values()))
    ratio = np.diag([(max(_LAUNCH, form.ratio) if name in fixed else form.ratio) ** 2 for name in form.features])
    blocks = [np.linalg.inv(_SPEED**2 * np.ones((count, count)) + ratio)]
    start[1] = [_THREADS[kind] for kind in kinds]
    blocks.append(np.linalg.inv(_THREADS_SPEED**2 * np.ones((count, count)) + _THREADS_RATIO**2 * np.eye(count)))
    precision = np.zeros((size * count, size * count))
    for i, block in enumerate(blocks):
        precision[i * count : (i + 1) * count, i * count : (i + 1) * count] = block
    return start, precision
