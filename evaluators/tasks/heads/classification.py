"""One class an example."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from evaluators.tasks.heads.head import Head

__all__ = ["Classification"]


class Classification(Head):
    """Logits ``[examples, classes]``; labels ``[examples]``."""

    kind: ClassVar[str] = "classification"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy in nats."""
        return functional.cross_entropy(outputs, labels, reduction="none")

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy; labels of -100 are ignored."""
        return functional.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), labels.reshape(-1), ignore_index=-100)
