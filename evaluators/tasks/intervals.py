"""Intervals of 90 % for the means that metrics are."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import DivergedError
from evaluators.metric import Estimate

__all__ = ["mean_interval", "paired_difference", "wilson"]

_Z = 1.6448536269514722  # the normal distribution's 95th percentile: 90 % two-sided


def wilson(correct: NDArray[Any]) -> Estimate:
    """The share of ``correct`` (``[examples]``, 0 or 1) with Wilson's score interval [Wilson1927]."""
    n = len(correct)
    p = float(np.mean(correct, dtype=np.float64))
    centre = (p + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(p * (1 - p) / n + _Z**2 / (4 * n**2))
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def mean_interval(values: NDArray[Any]) -> Estimate:
    """The mean of ``values`` (``[examples]``) with a normal interval.

    Raises:
        DivergedError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise DivergedError(f"{int((~np.isfinite(values)).sum())} of {len(values)} values are not finite")
    mean = float(np.mean(values, dtype=np.float64))
    half = _Z * float(np.std(values, ddof=1, dtype=np.float64)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(mean, mean - half, mean + half)


def paired_difference(a: NDArray[Any], b: NDArray[Any]) -> Estimate:
    """Mean of ``a - b`` over the same examples, with its interval; narrower than two separate intervals suggest."""
    return mean_interval(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))
