"""A loss that has parameters or a memory of its own, which are trained and kept with the model, and thrown away after it."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from compressors.context import Batch

__all__ = ["Objective"]


class Objective(nn.Module):
    """What ``train`` takes as ``loss`` where a function of outputs and batch is not enough.

    Its parameters are trained with the model's, its state is part of what a training goes on from.

    Attributes:
        progress: fraction of the full schedule that is done, in [0, 1); set before each step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.progress = 0.0

    @abstractmethod
    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """The mean loss, a scalar."""

    def close(self) -> None:
        """Take from the model what this loss has put on it, such as hooks; called when the training ends, however it ends."""
