"""Of the classes of tokens; an example is a text, whose tokens stand or fall together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import f1_score

from evaluators.tasks.measures.jackknife import Floats, contributions, grouped

__all__ = ["TOKEN_CLASSIFICATION"]

Arrays = NDArray[Any]


def _accuracy(outputs: Arrays, labels: Arrays) -> Floats:
    known = labels != -100
    right, counts = ((outputs.argmax(-1) == labels) & known).sum(-1), known.sum(-1)
    total = counts.sum()
    return contributions(float(right.sum() / total), (right.sum() - right) / np.maximum(total - counts, 1))


def _f1_macro(outputs: Arrays, labels: Arrays) -> Floats:
    predicted, known = outputs.argmax(-1), labels != -100
    return grouped(len(labels), lambda rows: float(f1_score(labels[rows][known[rows]], predicted[rows][known[rows]], average="macro", zero_division=0)))


TOKEN_CLASSIFICATION: dict[str, Callable[[Arrays, Arrays], Floats]] = {"accuracy": _accuracy, "f1_macro": _f1_macro}
"""By name: logits ``[examples, tokens, classes]`` and labels ``[examples, tokens]``, -100 where there is none."""
