"""How many inputs reach each stage of a model with early exits: measured, never predicted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from compressors.graph.exits import Exits
from evaluators.metric import Estimate
from evaluators.tasks.intervals import wilson
from evaluators.tasks.task import Predict

__all__ = ["ExitRates", "StageRecorder"]


@dataclass(frozen=True)
class ExitRates:
    """The share of inputs that reach each stage, the first of which all do.

    Attributes:
        exits: where the stages end.
        threshold: the confidence from which on an exit is trusted.
        reached: one share a stage; the last stage is the rest of the model.
    """

    exits: Exits
    threshold: float
    reached: tuple[Estimate, ...]

    @classmethod
    def of(cls, exits: Exits, threshold: float, stages: NDArray[np.int64]) -> Self:
        """From the stage at which each example left, ``[examples]``."""
        further = [wilson(stages >= i) for i in range(1, len(exits.after) + 1)]
        return cls(exits, threshold, (Estimate.exact(1.0), *further))

    @classmethod
    def all(cls, exits: Exits, threshold: float = 1.0) -> Self:
        """No input leaves early: nothing was measured yet, and no inference costs more."""
        return cls(exits, threshold, tuple(Estimate.exact(1.0) for _ in range(len(exits.after) + 1)))

    @property
    def left(self) -> tuple[float, ...]:
        """The share of inputs that leave at each stage; they add up to 1."""
        values = [e.value for e in self.reached]
        return tuple(a - b for a, b in zip(values, [*values[1:], 0.0], strict=True))

    def to_plain(self) -> dict[str, Any]:
        """What records hold under ``exits``."""
        return {**self.exits.to_plain(), "threshold": self.threshold, "reached": [e.to_plain() for e in self.reached]}

    @classmethod
    def from_plain(cls, data: Mapping[str, Any] | None) -> Self | None:
        """The reverse; None of nothing."""
        exits = Exits.from_plain(data)
        return None if data is None or exits is None else cls(exits, float(data["threshold"]), tuple(Estimate.from_plain(e) for e in data["reached"]))


class StageRecorder:
    """A ``Predict`` that notes at which stage each example left.

    Args:
        predict: whose outputs have ``stage`` ``[examples]`` beside the logits, where the model has exits.
    """

    def __init__(self, predict: Predict) -> None:
        self._predict = predict
        self._seen: list[NDArray[np.int64]] = []

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """As ``predict``."""
        outputs = self._predict(inputs)
        if "stage" in outputs:
            self._seen.append(np.asarray(outputs["stage"], dtype=np.int64))
        return outputs

    @property
    def stages(self) -> NDArray[np.int64] | None:
        """``[examples]`` in the order in which they came; None of a model without exits."""
        return np.concatenate(self._seen) if self._seen else None
