"""Any number of labels an example."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from evaluators.tasks.heads.head import Head

__all__ = ["MultiLabel"]


class MultiLabel(Head):
    """Logits and labels ``[examples, labels]``; a label of 1 is there, where its logit is above 0 it is predicted."""

    kind: ClassVar[str] = "multi-label"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean binary cross-entropy of an example's labels, in nats."""
        return functional.binary_cross_entropy_with_logits(outputs, labels.to(outputs.dtype), reduction="none").mean(-1)

    def soft_loss(self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:  # noqa: ARG002 - every label counts
        """Mean divergence of the labels' probabilities at a temperature, times its square."""
        target = functional.sigmoid(teacher / temperature)
        own = functional.binary_cross_entropy_with_logits(teacher / temperature, target)
        return (functional.binary_cross_entropy_with_logits(student / temperature, target) - own) * temperature**2
