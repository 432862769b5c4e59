"""Causal language modelling: predict the next token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from evaluators.metric import Estimate, Metric
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.intervals import mean_interval
from evaluators.tasks.quality import QUALITY

__all__ = ["CausalLanguageModelling"]


@dataclass
class CausalLanguageModelling(ArrayTask):
    """Blocks of tokens; ``labels`` are the next tokens, -100 at the end of a block. An example is a block."""

    name: str = "causal-lm"
    quality: tuple[Metric, ...] = QUALITY["causal-lm"]

    evaluation_batch: int = 64
    batch_size: int = 16

    @staticmethod
    def judge(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Per block: mean loss a token, in nats (under both names: perplexity is its exponential)."""
        losses = functional.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none")
        loss = losses.sum(-1) / (labels != -100).sum(-1).clamp(min=1)
        return {"perplexity": loss, "loss": torch.clone(loss)}

    def contributions(self, name: str, values: NDArray[Any]) -> NDArray[np.float64]:
        """Of perplexity, by how much each block moves it [delta method]."""
        found = super().contributions(name, values)
        return np.exp(min(found.mean(), 700.0)) * (1 + found - found.mean()) if name == "perplexity" else found

    def summarise(self, values: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
        """Perplexity is the exponential of the loss and of its interval."""
        loss = mean_interval(values["loss"])
        value, low, high = (math.exp(min(v, 700.0)) for v in (loss.value, loss.low, loss.high))
        return {"perplexity": Estimate(value, low, high), "loss": loss}
