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

_ROUNDING = 32 * np.finfo(np.float64).eps


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
    wrong, squares = np.square(found - true), np.square(_centred(true))
    value = _explained(wrong.sum(0), squares.sum(0))
    return contributions(float(value.mean()), _explained(wrong.sum(0) - wrong, _without(squares)).mean(-1))


def _explained(wrong: Floats, total: Floats) -> Floats:
    """The share of ``total`` that is not ``wrong``; of a target that does not vary 1 where nothing is wrong, else 0, as scikit-learn has it."""
    return np.where(total > 0, 1 - _ratio(wrong, total), np.where(wrong > 0, 0.0, 1.0))


def _pearson(outputs: Arrays, labels: Arrays) -> Floats:
    return _correlation(*_pair(outputs, labels))


def _spearman(outputs: Arrays, labels: Arrays) -> Floats:
    # Ranks move by at most one where an example is left out; they are kept.
    return _correlation(*(rankdata(each, axis=0) for each in _pair(outputs, labels)))


def _correlation(a: Floats, b: Floats) -> Floats:
    x, y = _centred(a), _centred(b)
    xy, xx, yy = x * y, x * x, y * y
    value = _ratio(xy.sum(0), np.sqrt(xx.sum(0) * yy.sum(0)))
    without = _ratio(xy.sum(0) - _share(xy), np.sqrt(_without(xx) * _without(yy)))
    return contributions(float(value.mean()), without.mean(-1))


def _centred(values: Floats) -> Floats:
    """About their mean; exactly 0 where they do not vary, which they would not be about a mean that is rounded."""
    moved = values - values[0]
    return np.asarray(moved - moved.mean(0), dtype=np.float64)


def _share(products: Floats) -> Floats:
    """By how much a sum of products about the means is smaller without each example: n / (n - 1) times its own."""
    return products * len(products) / max(1, len(products) - 1)


def _without(squares: Floats) -> Floats:
    """A sum of squares about the mean without each example; 0 where the others do not vary, and only rounding is left."""
    total = squares.sum(0)
    left = total - _share(squares)
    return np.where(left > _ROUNDING * total, left, 0.0)


def _ratio(a: Floats, b: Floats) -> Floats:
    # Where nothing varies, nothing is explained.
    return np.divide(a, b, out=np.zeros_like(a), where=b > 0)


REGRESSION: dict[str, Callable[[Arrays, Arrays], Floats]] = {"mse": _mse, "mae": _mae, "r2": _r2, "pearson": _pearson, "spearman": _spearman}
"""By name: outputs and labels ``[examples, targets]`` to contributions ``[examples]``."""
