"""The contract of a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

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
