"""Of sets of labels: what scikit-learn's F1 counts, with each example left out in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluators.tasks.measures.jackknife import Floats, contributions

__all__ = ["MULTI_LABEL"]

Arrays = NDArray[Any]


def _counts(outputs: Arrays, labels: Arrays) -> tuple[Floats, Floats]:
    """``[examples, labels]``: true positives, and false ones of both kinds."""
    predicted, there = outputs > 0, labels > 0.5
    return (predicted & there).astype(np.float64), (predicted ^ there).astype(np.float64)


def _f1(hits: Floats, misses: Floats) -> Floats:
    return np.divide(2 * hits, 2 * hits + misses, out=np.zeros_like(hits), where=2 * hits + misses > 0)


def _f1_micro(outputs: Arrays, labels: Arrays) -> Floats:
    hits, misses = (each.sum(-1) for each in _counts(outputs, labels))
    value = _f1(hits.sum(keepdims=True), misses.sum(keepdims=True))
    return contributions(float(value[0]), _f1(hits.sum() - hits, misses.sum() - misses))


def _f1_macro(outputs: Arrays, labels: Arrays) -> Floats:
    hits, misses = _counts(outputs, labels)
    value = _f1(hits.sum(0), misses.sum(0)).mean()
    return contributions(float(value), _f1(hits.sum(0) - hits, misses.sum(0) - misses).mean(-1))


def _subset_accuracy(outputs: Arrays, labels: Arrays) -> Floats:
    return np.asarray(((outputs > 0) == (labels > 0.5)).all(-1), dtype=np.float64)


MULTI_LABEL: dict[str, Callable[[Arrays, Arrays], Floats]] = {"f1_micro": _f1_micro, "f1_macro": _f1_macro, "subset_accuracy": _subset_accuracy}
"""By name: logits and labels ``[examples, labels]``; F1 of a label that is neither there nor predicted is 0, as ``zero_division=0``."""
