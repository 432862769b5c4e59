"""Numbers."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from evaluators.tasks.heads.head import Head

__all__ = ["Regression"]


class Regression(Head):
    """Outputs ``[examples, targets]`` (or ``[examples]`` of one target); labels ``[examples, targets]``."""

    kind: ClassVar[str] = "regression"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of an example's targets."""
        return (outputs.reshape(labels.shape) - labels.to(outputs.dtype)).square().mean(-1)

    def soft_loss(self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:  # noqa: ARG002 - numbers have no temperature
        """Mean squared difference."""
        return (student - teacher).square().mean()
