"""Split-conformal intervals on log-residuals [Vovk2005], by precision, wider far from what was measured.

A prediction's scale is the standard deviation that the fit itself gives it: the residual, and how little is known of the costs that this network's mix
of work depends on. The interval is the scale times a factor, such that 90 % of held-out rows fall inside.

[Vovk2005] Vovk, Gammerman, Shafer: Algorithmic learning in a random world. Springer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["COVERAGE", "conformal_factor", "scale"]

Floats = NDArray[np.float64]
COVERAGE = 0.9


def scale(shares: Floats, spread: Floats, residual: float) -> Floats:
    """``[...]`` standard deviation of the logarithm of a latency.

    Args:
        shares: ``[..., features]`` of the time that each kind of work takes.
        spread: ``[features, features]`` (or one per setting) covariance of what is known of the costs.
        residual: standard deviation that remains where the costs are known.
    """
    known = np.einsum("...f,...fg,...g->...", shares, spread, shares, optimize=True)
    return np.asarray(np.sqrt(residual**2 + np.maximum(known, 0.0)))


def conformal_factor(log_errors: Floats, scales: Floats) -> float:
    """The factor that holds ``COVERAGE`` of these held-out errors, with the finite-sample correction; NaN where there are none."""
    ratios = np.sort((np.abs(log_errors) / scales)[np.isfinite(log_errors)])
    if not len(ratios):
        return float("nan")
    return float(ratios[min(int(np.ceil((len(ratios) + 1) * COVERAGE)) - 1, len(ratios) - 1)])
