"""Predictions of latencies that were held out, and how good they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.devices.fitting.anchors import choose_anchors
from evaluators.devices.fitting.baselines import counts, proportional
from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.intervals import conformal_factor, scale
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.measurements import Measurements, is_integer, twin_of
from evaluators.devices.fitting.metrics import scores
from evaluators.devices.fitting.pooled import Prior, covariates, fit, posterior, shares
from evaluators.devices.profile import load_profile, profile_names

__all__ = ["HOLD_OUT", "Validation", "validate"]

Floats = NDArray[np.float64]
Networks = Mapping[str, Sequence[MeasuredKernel]]
HOLD_OUT = ("networks", "devices", "none")
_DEVICE_FOLDS = 8
_ENOUGH = 40
"""Held-out rows that a group needs for an interval of its own; else those of its precision, else all."""


@dataclass(frozen=True)
class Validation:
    """Predictions of one unit's rows, made without them.

    Attributes:
        measured: with the rows that were used as anchors removed.
        predicted, low, high: ``[settings, networks]`` milliseconds, NaN where nothing is predicted; the interval is to hold 90 %.
        scales: standard deviation of the logarithm that the fit expects.
        baselines: the same by name.
        integer: ``[networks]`` whether it computes in 8-bit integers.
        unmatched: devices that no profile lists.
    """

    measured: Measurements
    predicted: Floats
    scales: Floats
    low: Floats
    high: Floats
    baselines: Mapping[str, Floats]
    integer: NDArray[np.bool_]
    unmatched: tuple[str, ...]

    def groups(self) -> list[dict[str, Any]]:
        """Figures by thread count and precision, as fractions."""
        found = []
        for threads in ("1", "2+"):
            rows = [i for i, s in enumerate(self.measured.settings) if _threads(s.threads) == threads]
            for precision in ("fp32", "int8"):
                columns = np.flatnonzero(self.integer == (precision == "int8"))
                if len(rows) and len(columns) and np.isfinite((self.predicted * self.measured.ms)[np.ix_(rows, columns)]).any():
                    found.append({"class": self.measured.settings[rows[0]].unit, "threads": threads, "precision": precision} | self._group(rows, columns))
        return found

    def _group(self, rows: list[int], columns: NDArray[np.int64]) -> dict[str, Any]:
        cells = np.ix_(rows, columns)
        devices, networks = [self.measured.settings[i].device for i in rows], [self.measured.networks[i] for i in columns]
        measured, predicted = self.measured.ms[cells], self.predicted[cells]
        both = np.isfinite(measured) & np.isfinite(predicted)
        inside = (self.low[cells] <= measured) & (measured <= self.high[cells])
        return {
            "rows": int(both.sum()),
            **scores(predicted, measured, devices, networks),
            "coverage_90": round(float(inside[both].mean()), 4),
            "baselines": {name: scores(np.where(both, values[cells], np.nan), measured, devices, networks) for name, values in self.baselines.items()},
        }


def validate(measured: Measurements, networks: Networks, hold_out: str = "networks", anchors: int = 0) -> list[Validation]:
    """Predict every row from others; one result for each unit that was measured.

    ``hold_out`` says from which: ``networks``: not those of the same network, in integers or not; ``devices``: not those of the same device;
    ``none``: from the shipped profiles, whatever they were fitted to. ``anchors`` rows of every setting are known beforehand and not predicted.

    Raises:
        UserError: ``hold_out`` is none of ``HOLD_OUT``; too few networks or devices to hold any out; nothing left to score.
    """
    if hold_out not in HOLD_OUT:
        raise UserError(f"hold-out {hold_out!r} is not known; accepted: {', '.join(HOLD_OUT)}{near_miss(hold_out, HOLD_OUT)}")
    results = []
    for unit in dict.fromkeys(s.unit for s in measured.settings):
        part = measured.of_unit(unit)
        results.append(_shipped(part, networks, anchors) if hold_out == "none" else _held_out(part, networks, hold_out, anchors))
    if not any(result.groups() for result in results):
        names = sorted({name for result in results for name in result.unmatched})
        hint = f"no profile lists {', '.join(names[:3])}; with --anchors 1 or more they are predicted from what devices have in common" if names else ""
        raise UserError(f"nothing can be scored: {hint or 'every row is an anchor or disturbed'}")
    return results


def _held_out(measured: Measurements, networks: Networks, hold_out: str, count: int) -> Validation:
    names, about = measured.networks, covariates(measured.settings)
    work, integer = design(networks, names), np.array([is_integer(networks[n]) for n in names])
    keys: Sequence[str] = [twin_of(n) for n in names] if hold_out == "networks" else [s.device for s in measured.settings]
    distinct = sorted(set(keys))
    if len(distinct) < 2:
        raise UserError(f"{hold_out} cannot be held out: there is only {distinct[0]!r}; accepted: --hold-out none, or measurements of more {hold_out}")
    if hold_out == "networks":
        folds = [np.broadcast_to([key == one for key in keys], measured.ms.shape) for one in distinct]
    else:
        number = {key: i % min(_DEVICE_FOLDS, len(distinct)) for i, key in enumerate(distinct)}
        folds = [np.broadcast_to(np.array([number[key] == k for key in keys])[:, None], measured.ms.shape) for k in sorted(set(number.values()))]
    known = np.isfinite(measured.ms)
    chosen = np.zeros(measured.ms.shape, dtype=np.bool_)
    predicted, scales = np.full(measured.ms.shape, np.nan), np.full(measured.ms.shape, np.nan)
    baselines = {name: np.full(measured.ms.shape, np.nan) for name in counts(networks, names)}
    for fold in folds:
        rows = np.flatnonzero(fold.any(axis=1) & known.any(axis=1))
        prior = costs = spread = None
        ms = np.where(fold, np.nan, measured.ms)
        if hold_out == "devices":
            others = np.flatnonzero(~fold.all(axis=1))
            prior = fit(work, measured.ms[others], about[others]).prior
            chosen[rows] = choose_anchors(prior, work, measured.ms[rows], about[rows], count)
            ms[rows] = np.where(chosen[rows], measured.ms[rows], np.nan)
            costs, spread = posterior(prior, work, ms[rows], about[rows])
        else:
            if count:
                prior = fit(work, ms, about).prior
                chosen |= choose_anchors(prior, work, np.where(fold, measured.ms, np.nan), about, count)
                ms = np.where(fold & ~chosen, np.nan, measured.ms)
            fitted = fit(work, ms, about)
            prior, costs = fitted.prior, fitted.costs[rows]
            spread = prior.spread
        columns = fold & ~chosen
        values, widths = np.full(measured.ms.shape, np.nan), np.full(measured.ms.shape, np.nan)
        values[rows] = np.exp(costs) @ work.T
        widths[rows] = scale(shares(work, costs), spread if spread.ndim == 2 else spread[:, None], prior.residual)
        predicted, scales = np.where(columns, values, predicted), np.where(columns, widths, scales)
        for name, count_ in counts(networks, names).items():
            baselines[name] = np.where(columns, proportional(count_, ms, integer), baselines[name])
    left = Measurements(measured.settings, names, np.where(chosen, np.nan, measured.ms), measured.disturbed)
    return _with_intervals(left, predicted, scales, baselines, integer, folds)


def _with_intervals(
    measured: Measurements, predicted: Floats, scales: Floats, baselines: Mapping[str, Floats], integer: NDArray[np.bool_], folds: Sequence[NDArray[np.bool_]]
) -> Validation:
    """Intervals of every fold from the errors of the others."""
    errors = np.log(predicted) - np.log(measured.ms)
    factors = np.full(predicted.shape, np.nan)
    for fold in folds:
        elsewhere = np.where(fold, np.nan, errors)
        factors = np.where(fold, factor_table(elsewhere, scales, measured, integer), factors)
    width = np.exp(factors * scales)
    return Validation(measured, predicted, scales, predicted / width, predicted * width, baselines, integer, ())


def factor_table(errors: Floats, scales: Floats, measured: Measurements, integer: NDArray[np.bool_]) -> Floats:
    """``[settings, networks]``: the conformal factor of each row's threads and precision."""
    table = np.empty(errors.shape)
    single = np.array([_threads(s.threads) == "1" for s in measured.settings])
    for threads in (False, True):
        for kind in (False, True):
            cells = np.ix_(np.flatnonzero(single == threads), np.flatnonzero(integer == kind))
            of_precision = np.ix_(np.arange(len(single)), np.flatnonzero(integer == kind))
            for part in (cells, of_precision, np.ix_(np.arange(len(single)), np.arange(len(integer)))):
                if np.isfinite(errors[part]).sum() >= _ENOUGH or part[0].shape[0] * part[1].shape[1] == errors.size:
                    table[cells] = conformal_factor(errors[part], scales[part])
                    break
    return table


def _shipped(measured: Measurements, networks: Networks, count: int) -> Validation:
    from evaluators.devices.fitted import factor_of, fitted_costs, pooled_prior

    names, about = measured.networks, covariates(measured.settings)
    unit = measured.settings[0].unit
    work, integer = design(networks, names), np.array([is_integer(networks[n]) for n in names])
    by_name = {name: profile for profile in profile_names() for name in load_profile(profile).names}
    prior = pooled_prior(f"{unit}/ncnn")
    expected, matched = about @ prior.mean, np.zeros(len(about), dtype=np.bool_)
    for i, setting in enumerate(measured.settings):
        known = fitted_costs(load_profile(by_name[setting.device]), setting, "ncnn") if setting.device in by_name else None
        if known is not None:
            expected[i], matched[i] = known, True
    chosen = np.zeros(measured.ms.shape, dtype=np.bool_)
    costs, spread = expected.copy(), np.broadcast_to(prior.spread, (len(about), *prior.spread.shape)).copy()
    one = np.ones((len(about), 1))
    for group, covariance in ((matched, prior.spread), (~matched, prior.covariance)):
        rows = np.flatnonzero(group)
        for i in rows if count else ():
            own = Prior(expected[i : i + 1], covariance, prior.residual, prior.spread)
            chosen[i : i + 1] = choose_anchors(own, work, measured.ms[i : i + 1], one[:1], count)
            ms = np.where(chosen[i : i + 1], measured.ms[i : i + 1], np.nan)
            costs[i : i + 1], spread[i : i + 1] = posterior(own, work, ms, one[:1])
    predicted = np.exp(costs) @ work.T
    scales = scale(shares(work, costs), spread[:, None], prior.residual)
    scored = np.isfinite(measured.ms) & ~chosen & (matched[:, None] | chosen.any(axis=1)[:, None])
    factors = np.array([[factor_of(f"{unit}/ncnn", _threads(s.threads), "int8" if i else "fp32") for i in integer] for s in measured.settings])
    width = np.exp(factors * scales)
    baselines = {}
    for name, amount in counts(networks, names).items():
        baselines[name] = np.full(measured.ms.shape, np.nan)
        for one_network in sorted({twin_of(n) for n in names}):
            fold = np.broadcast_to([twin_of(n) == one_network for n in names], measured.ms.shape)
            baselines[name] = np.where(fold, proportional(amount, np.where(fold, np.nan, measured.ms), integer), baselines[name])
    left = Measurements(measured.settings, names, np.where(scored, measured.ms, np.nan), measured.disturbed)
    unmatched = tuple(dict.fromkeys(s.device for s in measured.settings if s.device not in by_name))
    return Validation(left, np.where(scored, predicted, np.nan), scales, predicted / width, predicted * width, baselines, integer, unmatched)


def _threads(count: int) -> str:
    return "1" if count == 1 else "2+"
