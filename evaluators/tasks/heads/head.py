"""The contract of a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from compressors.distillation_objective import soft_loss

__all__ = ["Head"]


class Head(ABC):
    """Outputs and labels to a loss.

    Attributes:
        kind: by which metrics are chosen.
    """

    kind: ClassVar[str]

    @abstractmethod
    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of each example, ``[examples]``."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Their mean, a scalar."""
        return self.losses(outputs, labels).mean()

    def soft_loss(self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """How far a student's outputs are from a teacher's, a scalar: of logits, the divergence of their distributions at a temperature."""
        return soft_loss(student, teacher, labels, temperature)
