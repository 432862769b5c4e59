"""Latencies predicted by the profiles as they are shipped, whatever they were fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitted import factor_of, fitted_costs, pooled_familiar, pooled_prior
from evaluators.devices.fitting.anchors import choose_anchors, preferred
from evaluators.devices.fitting.baselines import counts, proportional
from evaluators.devices.fitting.familiar import by_threads, circumstances
from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.forms import form_of
from evaluators.devices.fitting.intervals import scale
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.measurements import Measurements, is_integer, twin_of
from evaluators.devices.fitting.pooled import Prior, covariates, posterior, shares
from evaluators.devices.fitting.processors import owners
from evaluators.devices.fitting.validation import Validation, threads_group
from evaluators.devices.profile import load_profile

__all__ = ["as_shipped"]

Floats = NDArray[np.float64]
Networks = Mapping[str, Sequence[MeasuredKernel]]


def as_shipped(measured: Measurements, networks: Networks, anchors: int) -> Validation:
    """Devices are found by the names that profiles list; ``anchors`` rows of each setting correct what is known of it.

    A device that no profile lists is predicted from its anchors and what devices have in common; without anchors it is only named.
    """
    names, settings = measured.networks, measured.settings
    key = f"{settings[0].unit}/{settings[0].runtime}"
    work, about, prior = design(networks, names, form_of(settings[0].unit)), covariates(settings), pooled_prior(key)
    expected, matched = about @ prior.mean, np.zeros(len(settings), dtype=np.bool_)
    for i, setting in enumerate(settings):
        known = fitted_costs(load_profile(owners()[setting.device]), setting) if setting.device in owners() else None
        if known is not None:
            expected[i], matched[i] = known, True
    costs, spread = expected.copy(), np.broadcast_to(prior.spread, (len(settings), *prior.spread.shape)).copy()
    chosen = np.zeros(measured.ms.shape, dtype=np.bool_)
    one = np.ones((1, 1))
    first = pooled_familiar(key)[2]
    for i in range(len(settings)) if anchors else ():
        # What is known of this setting is the prior of its anchors.
        own = Prior(expected[i : i + 1], prior.spread if matched[i] else prior.covariance, prior.residual, prior.spread)
        chosen[i : i + 1] = choose_anchors(own, work, measured.ms[i : i + 1], one, anchors)
        if not matched[i]:
            order = [names.index(name) for name in first.get(threads_group(settings[i].threads), ()) if name in names]
            chosen[i] = preferred(order, measured.ms[i], chosen[i])
        costs[i : i + 1], spread[i : i + 1] = posterior(own, work, np.where(chosen[i : i + 1], measured.ms[i : i + 1], np.nan), one)
    predicted, scales = np.exp(costs) @ work.T, scale(shares(work, costs), spread[:, None], prior.residual)
    _familiar(measured, networks, key, np.flatnonzero(~matched & chosen.any(axis=1)), chosen, predicted, scales)
    scored = np.isfinite(measured.ms) & ~chosen & (matched | chosen.any(axis=1))[:, None]
    integer = np.array([is_integer(networks[n]) for n in names])
    width = np.exp(scales * [[factor_of(key, threads_group(s.threads), "int8" if i else "fp32") for i in integer] for s in settings])
    left = Measurements(settings, names, np.where(scored, measured.ms, np.nan), measured.disturbed)
    unmatched = tuple(dict.fromkeys(s.device for s in settings if s.device not in owners()))
    baselines = {name: _baseline(amount, measured, integer) for name, amount in counts(networks, names).items()}
    return Validation(left, np.where(scored, predicted, np.nan), scales, predicted / width, predicted * width, baselines, integer, unmatched)


def _familiar(
    measured: Measurements, networks: Networks, key: str, rows: NDArray[np.int64], chosen: NDArray[np.bool_], predicted: Floats, scales: Floats
) -> None:
    """On devices that nobody knows, networks that other devices have run are predicted from how those compare; writes into ``predicted`` and ``scales``."""
    learned, known, _ = pooled_familiar(key)
    columns = np.flatnonzero([known.get(name) == sum(k.macs for k in networks[name]) for name in measured.networks])
    places = [list(known).index(measured.networks[i]) for i in columns]
    for threads, same in by_threads(measured.settings).items():
        anchored = [i for i in np.intersect1d(rows, same) if chosen[i, columns].any()]
        if threads in learned and anchored:
            cells = np.ix_(np.array(anchored), columns)
            ms = np.full((len(anchored), len(known)), np.nan)
            ms[:, places] = np.where(chosen[cells], measured.ms[cells], np.nan)
            logs, deviations = learned[threads].given(circumstances([measured.settings[i] for i in anchored]), ms)
            predicted[cells], scales[cells] = np.exp(logs[:, places]), deviations[:, places]


def _baseline(amount: Floats, measured: Measurements, integer: NDArray[np.bool_]) -> Floats:
    """Fitted to the file's other networks: it knows more of the device than the profile does of these rows."""
    twins = np.array([twin_of(n) for n in measured.networks])
    predicted = np.full(measured.ms.shape, np.nan)
    for one in sorted(set(twins)):
        predicted[:, twins == one] = proportional(amount, np.where(twins == one, np.nan, measured.ms), integer)[:, twins == one]
    return predicted
