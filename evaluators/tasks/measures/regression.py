"""Of numbers; a metric of several targets is the mean over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from evaluators.tasks.measures.jackknife import Floats, contributions

__all__ = ["REGRESSION"]

Arrays = NDArray[Any]


def _pair(outputs: Arrays, labels: Arrays) -> tuple[Floats, Floats]:
    return outputs.reshape(labels.shape).astype(np.float64), labels.astype(np.float64)


def _mse(outputs: Arrays, labels: Arrays) -> Floats:
    found, true = _pair(outputs, labels)
    return np.asarray(np.square(found - true).mean(-1), dtype=np.float64)


def _mae(outputs: Arrays, labels: Arrays) -> Floats:
    found, true = _pair(outputs, labels)
    return np.asarray(np.abs(found - true).mean(-1), dtype=np.float64)


def _r2(outputs: Arrays, labels: Arrays) -> Floats:
    found, true = _pair(outputs, labels)
    wrong, total = np.square(found - true), _spread(true, true)
    n, centred = len(true), true - true.mean(0)
    value = 1 - _ratio(wrong.sum(0), total)
    # Without one example, the sum of squares about the mean is smaller by n / (n - 1) times its own.
    without = 1 - _ratio(wrong.sum(0) - wrong, total - np.square(centred) * n / max(1, n - 1))
    return contributions(float(value.mean()), without.mean(-1))


def _pearson(outputs: Arrays, labels: Arrays) -> Floats:
    return _correlation(*_pair(outputs, labels))


def _spearman(outputs: Arrays, labels: Arrays) -> Floats:
    # Ranks move by at most one where an example is left out; they are kept.
    return _correlation(*(rankdata(each, axis=0) for each in _pair(outputs, labels)))


def _correlation(a: Floats, b: Floats) -> Floats:
    n = len(a)
    x, y, share = a - a.mean(0), b - b.mean(0), n / max(1, n - 1)
    xy, xx, yy = _spread(a, b), _spread(a, a), _spread(b, b)
    value = _ratio(xy, np.sqrt(xx * yy))
    without = _ratio(xy - share * x * y, np.sqrt(np.maximum(xx - share * x * x, 0) * np.maximum(yy - share * y * y, 0)))
    return contributions(float(value.mean()), without.mean(-1))


def _spread(a: Floats, b: Floats) -> Floats:
    return np.asarray(((a - a.mean(0)) * (b - b.mean(0))).sum(0), dtype=np.float64)


def _ratio(a: Floats, b: Floats) -> Floats:
    # Where nothing varies, nothing is explained.
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


REGRESSION: dict[str, Callable[[Arrays, Arrays], Floats]] = {"mse": _mse, "mae": _mae, "r2": _r2, "pearson": _pearson, "spearman": _spearman}
"""By name: outputs and labels ``[examples, targets]`` to contributions ``[examples]``."""
