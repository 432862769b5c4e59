"""What a device model has to beat: latency proportional to one count of the network, fitted to the same rows of every setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.layers import MeasuredKernel

__all__ = ["counts", "proportional"]

Floats = NDArray[np.float64]


def counts(networks: Mapping[str, Sequence[MeasuredKernel]], names: Sequence[str]) -> dict[str, Floats]:
    """``[networks]`` multiply-accumulates and parameters."""
    return {
        "macs": np.array([sum(k.macs for k in networks[name]) for name in names]),
        "parameters": np.array([sum(k.weights for k in networks[name]) for name in names]),
    }


def proportional(count: Floats, ms: Floats, integer: NDArray[np.bool_]) -> Floats:
    """``[settings, networks]`` predictions of a setting's own rate, the geometric mean over its known rows.

    Float and integer networks have each a rate of their own; where a setting has rows of one kind only, its rate serves both, and where it
    has none, that of all settings together.
    """
    known = np.isfinite(ms)
    logs = np.where(known, np.log(np.where(known, ms, 1.0)) - np.log(count), np.nan)
    predicted = np.empty_like(ms)
    overall = _mean(logs.ravel())
    for row in range(len(ms)):
        either = _mean(logs[row])
        for kind in (False, True):
            rate = _mean(logs[row, integer == kind])
            for fallback in (either, overall):
                rate = fallback if np.isnan(rate) else rate
            predicted[row, integer == kind] = np.exp(rate) * count[integer == kind]
    return predicted


def _mean(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
