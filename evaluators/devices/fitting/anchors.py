"""Which rows of a setting to measure first: those after which the fewest doubts about the others remain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.pooled import Prior, shares

__all__ = ["choose_anchors", "preferred"]

Floats = NDArray[np.float64]


def choose_anchors(prior: Prior, work: Floats, ms: Floats, about: Floats, count: int) -> NDArray[np.bool_]:
    """``[settings, networks]``, True for at most ``count`` rows of each setting, so that one is always left to score.

    Chosen one by one, from the prior and from which rows there are, never from their latencies [Krause2008].

    [Krause2008] Krause, Singh, Guestrin: Near-optimal sensor placements in Gaussian processes. JMLR 9.
    """
    known = np.isfinite(ms)
    chosen = np.zeros(ms.shape, dtype=np.bool_)
    slopes = shares(work, about @ prior.mean)
    covariances = np.broadcast_to(prior.covariance, (len(ms), *prior.covariance.shape)).copy()
    rows = np.arange(len(ms))
    for _ in range(count):
        open_ = known & ~chosen
        able = open_.sum(axis=1) > 1
        between = np.einsum("bnf,bfg,bmg->bnm", slopes, covariances, slopes, optimize=True)
        noise = np.einsum("bnn->bn", between) + prior.residual**2
        gain = np.where(open_, (between**2 * known[:, None, :]).sum(axis=2) / noise, -1.0)
        best = gain.argmax(axis=1)
        chosen[rows[able], best[able]] = True
        slope = slopes[rows, best]
        pulled = np.einsum("bfg,bg->bf", covariances, slope)
        removed = pulled[:, :, None] * pulled[:, None, :] / noise[rows, best][:, None, None]
        covariances = covariances - np.where(able[:, None, None], removed, 0.0)
    return chosen


def preferred(order: Sequence[int], ms: Floats, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """As many anchors of a setting, ``[networks]``, first those in ``order`` that it has."""
    count = int(chosen.sum())
    there = [network for network in order if np.isfinite(ms[network])]
    taken = [*there, *(int(n) for n in np.flatnonzero(chosen) if n not in there)][:count]
    return np.isin(np.arange(len(chosen)), taken)
