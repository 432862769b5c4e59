"""The contract of a search algorithm: ask for a point, tell what came of it."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Algorithm", "Known", "point_key"]


def point_key(values: Mapping[str, Any]) -> str:
    """Equal for equal points: JSON with sorted names."""
    return json.dumps(dict(values), sort_keys=True, default=str)


@dataclass(frozen=True)
class Known:
    """What is known of a problem before anything is trained.

    Attributes:
        costs: the known objectives of points, ``[points, costs]``, smaller is better; a row of NaN where a constraint on known costs is broken.
        quality: position of the one objective that must be observed.
        sign: 1 where a larger quality is better, else -1.
        reference: ``[costs + 1]``: the costs, then the quality with its sign turned, beyond which a point is of no use; NaN for a quality of which nothing is
            known beforehand.
        scale: ``[costs + 1]``: edge lengths of the box in which points count.
        stages: what evaluating points takes, where points that share stages with earlier ones are cheap; see ``search.algorithms.stage_rule``.
    """

    costs: Callable[[Sequence[Mapping[str, Any]]], NDArray[np.float64]]
    quality: int
    sign: Literal[1, -1]
    reference: NDArray[np.float64]
    scale: NDArray[np.float64]
    stages: Callable[[list[dict[str, Any]]], Sequence[Sequence[tuple[str, float]]]] | None = None


class Algorithm(ABC):
    """Proposes points of a space. Deterministic: the same asks and tells give the same points."""

    @abstractmethod
    def ask(self) -> dict[str, Any]:
        """A point, which may repeat an earlier one."""

    @abstractmethod
    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None, std: float | None = None) -> None:
        """What came of a point.

        Args:
            values: the point, also one that was never asked for.
            objectives: as they are (directions belong to the metrics), or None for a failure or a point that was not run.
            std: standard deviation of the noise of the observed objective, where it is known.
        """
