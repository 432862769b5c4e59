"""From the metrics that an experiment names to functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.functions import load_function
from evaluators.tasks.measures.jackknife import Floats, grouped
from evaluators.tasks.specification import MeanMetric, MetricSpec, OwnMetric

__all__ = ["Measure", "measures_of"]

Measure = Callable[[NDArray[Any], NDArray[Any]], Floats]
"""Outputs and labels, ``[examples, ...]``, to what each example contributes, ``[examples]``; the metric is their mean."""


def measures_of(specs: Sequence[MetricSpec], kind: str, folder: Path) -> dict[str, Measure]:
    """By name, all but the loss.

    Args:
        specs: of the data; ``quality_metrics`` has checked that they fit.
        kind: of the head.
        folder: where the user's files are.

    Raises:
        UserError: a function that cannot be loaded.
    """
    known = _known(kind)
    found: dict[str, Measure] = {}
    for spec in specs:
        if isinstance(spec, MeanMetric):
            found[spec.name] = _mean([_one(part, known, folder) for part in spec.mean])
        elif spec != "loss":
            found[spec.named if isinstance(spec, OwnMetric) else spec] = _one(spec, known, folder)
    return found


def _known(kind: str) -> dict[str, Measure]:
    # Each needs a library of its own.
    if kind == "classification":
        from evaluators.tasks.measures.classification import CLASSIFICATION

        return CLASSIFICATION
    if kind == "multi-label":
        from evaluators.tasks.measures.multi_label import MULTI_LABEL

        return MULTI_LABEL
    if kind == "regression":
        from evaluators.tasks.measures.regression import REGRESSION

        return REGRESSION
    if kind == "token-classification":
        from evaluators.tasks.measures.token_classification import TOKEN_CLASSIFICATION

        return TOKEN_CLASSIFICATION
    if kind == "image-to-image":
        from evaluators.tasks.measures.image_to_image import IMAGE_TO_IMAGE

        return IMAGE_TO_IMAGE
    return {}


def _one(spec: str | OwnMetric, known: dict[str, Measure], folder: Path) -> Measure:
    return known[spec] if isinstance(spec, str) else _own(spec, folder)


def _mean(parts: Sequence[Measure]) -> Measure:
    def measure(outputs: NDArray[Any], labels: NDArray[Any]) -> Floats:
        return np.asarray(np.mean([part(outputs, labels) for part in parts], axis=0), dtype=np.float64)

    return measure


def _own(spec: OwnMetric, folder: Path) -> Measure:
    function = load_function(spec.function, folder, "data.metrics")

    def called(outputs: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
        try:
            return np.asarray(function(outputs, labels), dtype=np.float64)
        except Exception as error:
            raise UserError(f"data.metrics: {spec.function} raises {type(error).__name__}: {error}") from error

    def measure(outputs: NDArray[Any], labels: NDArray[Any]) -> Floats:
        whole = called(outputs, labels)
        if whole.shape == (len(labels),):
            return np.asarray(whole, dtype=np.float64)
        if whole.shape not in ((), (1,)):
            raise UserError(
                f"data.metrics: {spec.function} returns the shape {list(whole.shape)}; accepted: one number, or one of each of {len(labels)} examples"
            )
        return grouped(len(labels), lambda rows: float(called(outputs[rows], labels[rows]).reshape(())))

    return measure
