"""One class a token."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from evaluators.tasks.heads.head import Head

__all__ = ["TokenClassification"]


class TokenClassification(Head):
    """Logits ``[examples, tokens, classes]``; labels ``[examples, tokens]``, -100 where a token has none."""

    kind: ClassVar[str] = "token-classification"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of an example's tokens, in nats."""
        each = functional.cross_entropy(outputs.transpose(1, 2), labels, ignore_index=-100, reduction="none")
        return each.sum(-1) / (labels != -100).sum(-1).clamp(min=1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean over all tokens."""
        return functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1), ignore_index=-100)
