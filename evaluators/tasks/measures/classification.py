"""Of classes, by scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from evaluators.tasks.measures.jackknife import Floats, over_pairs

__all__ = ["CLASSIFICATION"]

Arrays = NDArray[Any]


def _accuracy(outputs: Arrays, labels: Arrays) -> Floats:
    return np.asarray(outputs.argmax(-1) == labels, dtype=np.float64)


def _of_pairs(statistic: Callable[..., float], **options: Any) -> Callable[[Arrays, Arrays], Floats]:
    def measure(outputs: Arrays, labels: Arrays) -> Floats:
        return over_pairs(labels, outputs.argmax(-1), lambda y, p, w: float(statistic(y[w > 0], p[w > 0], sample_weight=w[w > 0], **options)))

    return measure


def _balanced(y: Arrays, p: Arrays, sample_weight: Floats) -> float:
    # The mean recall of the classes that there are; scikit-learn's own function warns of predictions that no label has.
    return float(metrics.recall_score(y, p, labels=np.unique(y), average="macro", sample_weight=sample_weight, zero_division=0))


CLASSIFICATION: dict[str, Callable[[Arrays, Arrays], Floats]] = {
    "accuracy": _accuracy,
    "f1": _of_pairs(metrics.f1_score, zero_division=0),
    "f1_macro": _of_pairs(metrics.f1_score, average="macro", zero_division=0),
    "precision_macro": _of_pairs(metrics.precision_score, average="macro", zero_division=0),
    "recall_macro": _of_pairs(metrics.recall_score, average="macro", zero_division=0),
    "matthews": _of_pairs(metrics.matthews_corrcoef),
    "balanced_accuracy": _of_pairs(_balanced),
}
"""By name: logits ``[examples, classes]`` and labels ``[examples]`` to contributions ``[examples]``."""
