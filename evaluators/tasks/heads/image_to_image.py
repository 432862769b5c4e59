"""Images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from evaluators.tasks.heads.head import Head

__all__ = ["ImageToImage"]


class ImageToImage(Head):
    """Outputs and labels ``[examples, channels, height, width]``, from 0 to 1."""

    kind: ClassVar[str] = "image-to-image"

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error of an image's pixels."""
        return (outputs - labels.to(outputs.dtype)).square().flatten(1).mean(-1)

    def soft_loss(self, student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:  # noqa: ARG002 - numbers have no temperature
        """Mean squared difference."""
        return (student - teacher).square().mean()
