"""What single examples contribute to a metric that is no mean over them.

The contribution of example i is ``value + (n - 1) (mean of the values without one - value without i)``: the mean of the contributions is the metric, their
spread over ``sqrt(n)`` its standard error [Tukey1958], and the difference of two models' contributions is paired, example by example.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["contributions", "grouped", "over_pairs"]

Floats = NDArray[np.float64]

_GROUPS = 100


def contributions(value: float, without: Floats) -> Floats:
    """Of a metric's value, and its values without each example, ``[examples]``."""
    return np.asarray(value + (len(without) - 1) * (without.mean() - without), dtype=np.float64)


def over_pairs(labels: NDArray[Any], predicted: NDArray[Any], statistic: Callable[[NDArray[Any], NDArray[Any], Floats], float]) -> Floats:
    """Of a statistic that only counts how often each pair of label and prediction occurs: it is computed once a pair, not once an example.

    Args:
        labels: classes, ``[examples]``.
        predicted: the same.
        statistic: of distinct labels and predictions with their weights, as scikit-learn's metrics take them.
    """
    pairs, which, counts = np.unique(np.stack([labels, predicted]), axis=1, return_inverse=True, return_counts=True)
    weights = counts.astype(np.float64)
    without = np.empty(len(weights))
    for i in range(len(weights)):
        weights[i] -= 1
        # Of one example alone nothing is left.
        without[i] = statistic(pairs[0], pairs[1], weights) if weights.any() else 0.0
        weights[i] += 1
    value = statistic(pairs[0], pairs[1], weights)
    return contributions(value, without[which.reshape(-1)])


def grouped(count: int, statistic: Callable[[NDArray[np.int64]], float]) -> Floats:
    """Of any statistic: groups of examples are left out, where there are more than a hundred.

    Args:
        count: of examples.
        statistic: of the rows that are left, and of all.
    """
    groups = np.arange(count) % min(count, _GROUPS)
    rows = np.arange(count, dtype=np.int64)
    value = statistic(rows)
    without = np.array([statistic(rows[groups != g]) if count > 1 else value for g in range(groups.max() + 1)], dtype=np.float64)
    each = contributions(value, without) - value
    # Members of a group are not independent: their spread is widened to what the groups say of the standard error.
    return np.asarray(value + np.sqrt(count / len(each)) * each[groups], dtype=np.float64)
