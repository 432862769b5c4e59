"""Intervals of 90 % for the means that metrics are, and for the mean of several of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import DivergedError
from evaluators.metric import Estimate

__all__ = ["average_interval", "average_of_means", "interval_of", "mean_interval", "paired_difference", "wilson"]

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


def interval_of(values: NDArray[Any]) -> Estimate:
    """The mean of ``values`` (``[examples]``): a share of zeros and ones by ``wilson``, else by ``mean_interval``."""
    return wilson(values) if np.isin(values, (0, 1)).all() else mean_interval(values)


def paired_difference(a: NDArray[Any], b: NDArray[Any]) -> Estimate:
    """Mean of ``a - b`` over the same examples, with its interval; narrower than two separate intervals suggest."""
    return mean_interval(np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64))


def average_of_means(groups: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    """What single examples contribute to the unweighted mean of the groups' means, one group after the other, ``[examples of all groups]``.

    The mean of the contributions is that mean, and their spread over ``sqrt(n)`` its standard error, as of a stratified sample [Cochran1977]. So differences of
    two models' contributions are paired within each group.

    Args:
        groups: contributions ``[examples]`` each.
    """
    means = [float(np.mean(group, dtype=np.float64)) for group in groups]
    total = sum(map(len, groups))
    parts = [total / (len(groups) * len(group)) * (group - mean) for group, mean in zip(groups, means, strict=True)]
    return np.asarray(np.mean(means) + np.concatenate(parts), dtype=np.float64)


def average_interval(parts: Sequence[Estimate]) -> Estimate:
    """The unweighted mean of independent estimates; each end of its interval from the same ends of theirs [Zou2008]."""
    value = float(np.mean([e.value for e in parts]))
    below = math.hypot(*(e.value - e.low for e in parts)) / len(parts)
    above = math.hypot(*(e.high - e.value for e in parts)) / len(parts)
    return Estimate(value, value - below, value + above)
