"""What each task's models are judged by."""

from __future__ import annotations

from evaluators.metric import Metric
from evaluators.model_spec import ModelSpec
from evaluators.tasks.specification import DataSpec

__all__ = ["ACCURACY", "LOSS", "PERPLEXITY", "QUALITY", "quality_metrics"]

ACCURACY = Metric("accuracy", "", "max", "observed")
LOSS = Metric("loss", "nats", "min", "observed")
PERPLEXITY = Metric("perplexity", "", "min", "observed")

QUALITY = {"image-classification": (ACCURACY, LOSS), "text-classification": (ACCURACY, LOSS), "causal-lm": (PERPLEXITY, LOSS)}
"""By task, the main metric first."""


def quality_metrics(model: ModelSpec, data: DataSpec) -> tuple[Metric, ...]:  # noqa: ARG001 - a task may depend on its data
    """The metrics of the task that ``model`` and ``data`` mean, the main one first. Loads nothing."""
    return QUALITY[model.task]
