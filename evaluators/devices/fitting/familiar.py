"""Networks that other devices have run: how their latencies go together, beyond what their kernels say.

The logarithms of a setting's latencies are jointly normal about a mean that depends on the threads and the kind of processor; the covariance starts as the
one that the pooled costs imply and is then learned, settings far from the others counting less (a multivariate t distribution, fitted by expectation
maximisation with missing values [Liu1995]). A few anchors then tell the rest.

[Krause2008] Krause, Singh, Guestrin: Near-optimal sensor placements in Gaussian processes. JMLR 9.
[Liu1995] Liu, Rubin: ML estimation of the t distribution using EM and its extensions, ECM and ECME. Statistica Sinica 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.pooled import Prior, covariates, shares
from evaluators.devices.fitting.processors import kind_of
from evaluators.devices.fitting.setting import Setting
from evaluators.devices.fitting.validation import threads_group

__all__ = ["Familiar", "by_threads", "circumstances", "fit_familiar", "well_known"]

Floats = NDArray[np.float64]
_NOISE = 0.05
"""Standard deviation of the logarithm of a measurement that is repeated."""
_DEGREES = 5.0
_PRIOR_WEIGHT = 30.0
_RIDGE = 30.0
"""How many settings the expectation counts for that threads and processors change nothing between networks."""
_ITERATIONS = 25
_ENOUGH = {"npu": 12}
_ENOUGH_ELSEWHERE = 34
"""In so many settings a network must have been measured; fewer where all are of one maker and one compiler, so that networks compare alike."""


@dataclass(frozen=True)
class Familiar:
    """Mean ``[circumstances, networks]`` and covariance ``[networks, networks]`` of the logarithm of latencies."""

    mean: Floats
    covariance: Floats

    def given(self, about: Floats, ms: Floats) -> tuple[Floats, Floats]:
        """``[settings, networks]``: logarithms of the latencies given those in ``ms`` (NaN where unknown), and their standard deviations."""
        values, covariances = _given(about @ self.mean, self.covariance, ms)
        return values, np.sqrt(np.einsum("bnn->bn", covariances) + _NOISE**2)

    def order(self, about: Floats, ms: Floats, count: int) -> list[int]:
        """The networks to measure first, the best one first: those from which the others of these settings are told best [Krause2008]."""
        chosen: list[int] = []
        for _ in range(min(count, ms.shape[1] - 1)):
            errors = {}
            for network in range(ms.shape[1]):
                if network not in chosen and np.isfinite(ms[:, network]).any():
                    columns = [*chosen, network]
                    seen = np.full_like(ms, np.nan)
                    seen[:, columns] = ms[:, columns]
                    missed = np.abs(np.expm1(self.given(about, seen)[0] - np.log(ms)))[np.isfinite(ms[:, network])]
                    missed[:, columns] = np.nan
                    errors[network] = float(np.nanmean(np.minimum(missed, 1.0)))
            chosen.append(min(errors, key=lambda network: errors[network]))
        return chosen


def well_known(ms: Floats, unit: str) -> bool:
    """Whether every network of ``ms``, ``[settings, networks]``, was measured in enough of these settings."""
    return bool((np.isfinite(ms).sum(axis=0) >= _ENOUGH.get(unit, _ENOUGH_ELSEWHERE)).all())


def circumstances(settings: Sequence[Setting]) -> Floats:
    """``[settings, circumstances]``: those of the pooled fit, and the kind of processor."""
    return np.column_stack([covariates(settings), np.array([kind_of(s) for s in settings])])


def fit_familiar(prior: Prior, work: Floats, ms: Floats, about: Floats) -> Familiar:
    """Learn from settings; ``prior`` was fitted to the same, ``work`` is ``[networks, features]``, ``ms`` ``[settings, networks]``."""
    used = np.isfinite(ms).any(axis=1)
    ms, about = ms[used], about[used]
    typical = prior.mean[0]
    slopes = shares(work, typical[None])[0]
    start = slopes @ prior.covariance @ slopes.T + prior.residual**2 * np.eye(len(work))
    covariance = start
    pooled = np.zeros((about.shape[1], len(work)))
    pooled[:2] = np.stack([np.log(work @ np.exp(typical)), slopes @ prior.mean[1]])
    mean = pooled
    ridge = np.diag([1.0, *[_RIDGE] * (about.shape[1] - 1)])
    for _ in range(_ITERATIONS):
        expected = about @ mean
        values, covariances = _given(expected, covariance, ms)
        deviation = values - expected
        seen = np.isfinite(ms).sum(axis=1)
        distance = np.einsum("bn,nm,bm->b", deviation, np.linalg.inv(covariance), deviation)
        weight = (_DEGREES + seen) / (_DEGREES + distance)
        weighted = about * weight[:, None]
        # A common change of all networks is free; only differences between networks are held back.
        shift = deviation.mean(axis=1)
        common = np.linalg.lstsq(weighted.T @ about + 1e-3 * np.eye(len(ridge)), weighted.T @ shift, rcond=None)[0]
        own = np.linalg.solve(
            weighted.T @ about + ridge,
            weighted.T @ (values - about @ (mean + common[:, None])) - ridge @ (mean - pooled - (mean - pooled).mean(axis=1, keepdims=True)),
        )
        mean = mean + common[:, None] + own
        deviation = values - about @ mean
        scatter = np.einsum("b,bn,bm->nm", weight, deviation, deviation) + covariances.sum(axis=0)
        covariance = (scatter + _PRIOR_WEIGHT * start) / (len(ms) + _PRIOR_WEIGHT)
    return Familiar(mean, covariance)


def _given(expected: Floats, covariance: Floats, ms: Floats) -> tuple[Floats, Floats]:
    known = np.isfinite(ms)
    logs = np.where(known, np.log(np.where(known, ms, 1.0)), 0.0)
    inverse = np.linalg.inv(covariance)
    precision = known / _NOISE**2
    covariances = np.asarray(np.linalg.inv(inverse + precision[:, :, None] * np.eye(ms.shape[1])), dtype=np.float64)
    values: Floats = np.einsum("bnm,bm->bn", covariances, expected @ inverse + precision * logs)
    return values, covariances


def by_threads(settings: Sequence[Setting]) -> dict[str, NDArray[np.int64]]:
    """Positions of the settings of one thread and of more: with more, networks compare differently and vary more."""
    groups = np.array([threads_group(s.threads) for s in settings])
    return {group: np.flatnonzero(groups == group) for group in sorted(set(groups.tolist()))}
