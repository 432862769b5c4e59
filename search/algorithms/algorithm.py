"""The contract of a search algorithm: ask for a point, tell what came of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Algorithm"]


class Algorithm(ABC):
    """Proposes points of a space. Deterministic: the same asks and tells give the same points."""

    @abstractmethod
    def ask(self) -> dict[str, Any]:
        """A point, which may repeat an earlier one."""

    @abstractmethod
    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None) -> None:
        """What came of a point: its objectives as they are (directions belong to the metrics), or None for a failure or a point that was not run."""
