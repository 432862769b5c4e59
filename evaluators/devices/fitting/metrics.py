"""How good predicted latencies are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.measurements import family

__all__ = ["kendall_tau", "scores"]

Floats = NDArray[np.float64]


def scores(predicted: Floats, measured: Floats, devices: Sequence[str], networks: Sequence[str]) -> dict[str, Any]:
    """Figures of a group; arrays are ``[settings, networks]``, NaN where there is nothing to compare, ``devices`` names the device of each setting.

    Errors pool all rows. Rank correlation is that of the networks of a setting, averaged over the settings of a device and then over devices, 0 where
    no setting has two networks to rank; ``kendall_tau_in_family`` ranks the variants of one architecture only.
    """
    both = np.isfinite(predicted) & np.isfinite(measured)
    errors = np.abs(predicted[both] / measured[both] - 1)
    families = [family(n) for n in networks]
    inside = [np.array([f == name for f in families]) for name in dict.fromkeys(families)]
    return {
        "mape": _figure(errors.mean()),
        "median_ape": _figure(np.median(errors)),
        "within_5": _figure((errors <= 0.05).mean()),
        "within_10": _figure((errors <= 0.1).mean()),
        "within_20": _figure((errors <= 0.2).mean()),
        "kendall_tau": _mean_tau(predicted, measured, devices, both, [np.ones(len(networks), dtype=np.bool_)]),
        "kendall_tau_in_family": _mean_tau(predicted, measured, devices, both, inside),
    }


def kendall_tau(a: Floats, b: Floats) -> float | None:
    """Tau-b [Kendall1945]; None where either has no two different values.

    [Kendall1945] Kendall: The treatment of ties in ranking problems. Biometrika 33.
    """
    i, j = np.triu_indices(len(a), 1)
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    norm = np.sqrt(float((x != 0).sum()) * float((y != 0).sum()))
    return float((x * y).sum() / norm) if norm else None


def _mean_tau(predicted: Floats, measured: Floats, devices: Sequence[str], both: NDArray[np.bool_], groups: Sequence[NDArray[np.bool_]]) -> float:
    by_device: dict[str, list[float]] = {}
    for row, device in enumerate(devices):
        for group in groups:
            chosen = both[row] & group
            tau = kendall_tau(predicted[row, chosen], measured[row, chosen])
            if tau is not None:
                by_device.setdefault(device, []).append(tau)
    return _figure(np.mean([np.mean(taus) for taus in by_device.values()])) if by_device else 0.0


def _figure(value: Any) -> float:
    return round(float(value), 4)
