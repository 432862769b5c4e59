"""Text classification: one label a text."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evaluators.metric import Metric
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.quality import QUALITY

__all__ = ["TextClassification"]


@dataclass
class TextClassification(ArrayTask):
    """Texts as ``input_ids`` and ``attention_mask`` of a fixed length.

    Attributes:
        trims: whether training batches end with their longest text; only for models that take texts of any length.
    """

    name: str = "text-classification"
    quality: tuple[Metric, ...] = QUALITY["text-classification"]

    trims: bool = False

    def augment(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002 - nothing random
        """Padding behind the batch's longest text is left out: masked tokens change no output and cost as much as words."""
        if not self.trims or "attention_mask" not in inputs:
            return inputs
        longest = int(inputs["attention_mask"].any(dim=0).nonzero().max()) + 1
        return {name: value[:, :longest] for name, value in inputs.items()}
