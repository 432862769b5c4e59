"""Latencies predicted with their networks or their devices held out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.devices.fitting.anchors import choose_anchors, preferred
from evaluators.devices.fitting.baselines import counts, proportional
from evaluators.devices.fitting.familiar import by_threads, circumstances, fit_familiar, well_known
from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.forms import form_of
from evaluators.devices.fitting.intervals import conformal_factor, scale
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.measurements import Measurements, is_integer, twin_of
from evaluators.devices.fitting.pooled import covariates, fit, posterior, shares
from evaluators.devices.fitting.validation import Validation, threads_group

__all__ = ["devices_held_out", "networks_held_out"]

Floats = NDArray[np.float64]
Cells = NDArray[np.bool_]
Networks = Mapping[str, Sequence[MeasuredKernel]]
_DEVICE_FOLDS = 8
_SAME = 5
"""Rows that two devices must share to be taken as one."""
_SPARE = 2
"""Anchors are looked for among so many more networks than needed, since not every device has run all."""
_ENOUGH = 40
"""Held-out rows that a group needs for an interval of its own; else those of its precision, else all."""


def networks_held_out(measured: Measurements, networks: Networks) -> Validation:
    """Every network is predicted from the others, its twin in another precision not among them.

    Raises:
        UserError: there is only one network.
    """
    form = form_of(measured.settings[0].unit)
    about, work = covariates(measured.settings), design(networks, measured.networks, form)
    twins = [twin_of(n) for n in measured.networks]
    predicted, scales = (np.full(measured.ms.shape, np.nan) for _ in range(2))
    folds = [np.broadcast_to(np.array([t == one for t in twins]), measured.ms.shape) for one in _several(twins, "networks")]
    for fold in folds:
        fitted = fit(work, np.where(fold, np.nan, measured.ms), about, form)
        predicted = np.where(fold, np.exp(fitted.costs) @ work.T, predicted)
        scales = np.where(fold, scale(shares(work, fitted.costs), fitted.prior.spread, fitted.prior.residual), scales)
    return _validation(measured, networks, predicted, scales, folds, np.zeros(measured.ms.shape, dtype=np.bool_))


def devices_held_out(measured: Measurements, networks: Networks, anchors: int) -> Validation:
    """Every device is predicted from the others and from ``anchors`` rows of each of its settings.

    Raises:
        UserError: there is only one device.
    """
    form = form_of(measured.settings[0].unit)
    about, kinds, work = covariates(measured.settings), circumstances(measured.settings), design(networks, measured.networks, form)
    devices = _distinct(measured)
    number = {device: i % _DEVICE_FOLDS for i, device in enumerate(_several(devices, "devices"))}
    fold_of = np.array([number[device] for device in devices])
    predicted, scales = (np.full(measured.ms.shape, np.nan) for _ in range(2))
    chosen = np.zeros(measured.ms.shape, dtype=np.bool_)
    for k in sorted(set(number.values())):
        rest, rows = np.flatnonzero(fold_of != k), np.flatnonzero(fold_of == k)
        prior = fit(work, measured.ms[rest], about[rest], form).prior
        chosen[rows] = choose_anchors(prior, work, measured.ms[rows], about[rows], anchors)
        costs, spread = posterior(prior, work, np.where(chosen[rows], measured.ms[rows], np.nan), about[rows])
        predicted[rows], scales[rows] = np.exp(costs) @ work.T, scale(shares(work, costs), spread[:, None], prior.residual)
        for same in by_threads(measured.settings).values():
            seen, unseen = np.intersect1d(rest, same), np.intersect1d(rows, same)
            # What so many other devices have run is known better than its kernels alone say.
            if len(unseen) and well_known(measured.ms[seen], measured.settings[0].unit):
                learned = fit_familiar(prior, work, measured.ms[seen], kinds[seen])
                order = learned.order(kinds[seen], measured.ms[seen], anchors + _SPARE)
                chosen[unseen] = [preferred(order, measured.ms[i], chosen[i]) for i in unseen]
                logs, scales[unseen] = learned.given(kinds[unseen], np.where(chosen[unseen], measured.ms[unseen], np.nan))
                predicted[unseen] = np.exp(logs)
    folds = [np.broadcast_to((fold_of == k)[:, None], measured.ms.shape) for k in sorted(set(number.values()))]
    return _validation(measured, networks, predicted, scales, folds, chosen)


def _distinct(measured: Measurements) -> list[str]:
    """The device of each setting; one that has the very rows of another, which stood in for it when it was measured, is that one."""
    named: dict[str, str] = {}
    for i, setting in enumerate(measured.settings):
        for j, other in enumerate(measured.settings[:i]):
            both = np.isfinite(measured.ms[i]) & np.isfinite(measured.ms[j])
            if setting.device != other.device and both.sum() >= _SAME and np.array_equal(measured.ms[i, both], measured.ms[j, both]):
                named.setdefault(setting.device, named.get(other.device, other.device))
    return [named.get(s.device, s.device) for s in measured.settings]


def _several(keys: Sequence[str], what: str) -> list[str]:
    distinct = sorted(set(keys))
    if len(distinct) < 2:
        raise UserError(f"{what} cannot be held out: there is only {distinct[0]!r}; accepted: --hold-out none, or measurements of more {what}")
    return distinct


def _validation(measured: Measurements, networks: Networks, predicted: Floats, scales: Floats, folds: Sequence[Cells], anchors: Cells) -> Validation:
    """With intervals of every fold from the errors of the others, and baselines that know what the model knew."""
    integer = np.array([is_integer(networks[n]) for n in measured.networks])
    left = Measurements(measured.settings, measured.networks, np.where(anchors, np.nan, measured.ms), measured.disturbed)
    errors = np.log(predicted) - np.log(left.ms)
    factors = np.full(predicted.shape, np.nan)
    baselines = {name: np.full(predicted.shape, np.nan) for name in counts(networks, measured.networks)}
    for fold in folds:
        factors = np.where(fold, _factors(np.where(fold, np.nan, errors), scales, left, integer), factors)
        for name, amount in counts(networks, measured.networks).items():
            seen = np.where(fold & ~anchors, np.nan, measured.ms)
            baselines[name] = np.where(fold, proportional(amount, seen, integer), baselines[name])
    width = np.exp(factors * scales)
    return Validation(left, predicted, scales, predicted / width, predicted * width, baselines, integer, ())


def _factors(errors: Floats, scales: Floats, measured: Measurements, integer: Cells) -> Floats:
    """``[settings, networks]``: the conformal factor of each row's threads and precision."""
    table = np.empty(errors.shape)
    groups = np.array([threads_group(s.threads) for s in measured.settings])
    everywhere = np.arange(len(groups)), np.arange(len(integer))
    for threads in sorted(set(groups)):
        for kind in (False, True):
            rows, columns = np.flatnonzero(groups == threads), np.flatnonzero(integer == kind)
            parts = [np.ix_(rows, columns), np.ix_(everywhere[0], columns), np.ix_(*everywhere)]
            enough = [part for part in parts if np.isfinite(errors[part]).sum() >= _ENOUGH] or parts[-1:]
            table[parts[0]] = conformal_factor(errors[enough[0]], scales[enough[0]])
    return table
