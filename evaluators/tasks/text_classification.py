"""Text classification: one label a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evaluators.metric import Metric
from evaluators.tasks.array_task import ACCURACY, LOSS, ArrayTask

__all__ = ["TextClassification"]


@dataclass
class TextClassification(ArrayTask):
    """Texts as ``input_ids`` and ``attention_mask`` of a fixed length."""

    name: ClassVar[str] = "text-classification"
    quality: ClassVar[tuple[Metric, ...]] = (ACCURACY, LOSS)
