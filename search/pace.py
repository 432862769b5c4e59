"""How long trainings and evaluations take here, from those that have ended: what publishing a front will need."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from search.record import TrialRecord

__all__ = ["Pace"]

_LONG = 0.9
"""Quantile of the times of trainings that the next one is taken to need."""


class Pace:
    """What trainings and evaluations take, from the trials that have ended."""

    def __init__(self) -> None:
        self._trainings: deque[float] = deque(maxlen=200)
        self._evaluations: deque[float] = deque(maxlen=200)

    def add(self, record: TrialRecord) -> None:
        """A trial has ended in this study."""
        computed = [stage for stage in record.stages if not stage.cached]
        if record.status != "ok" or record.origin or not computed:
            return
        evaluations = [stage.seconds for stage in computed if stage.name == "evaluate"]
        self._evaluations.extend(evaluations)
        if len(computed) > len(evaluations):
            self._trainings.append(record.seconds)

    @property
    def training(self) -> float:
        """Seconds that a training with its evaluation takes, on the long side; 0 where nothing is known."""
        return float(np.quantile(self._trainings, _LONG)) if self._trainings else 0.0

    def publishing(self, points: int, replicates: int, workers: int) -> float:
        """Seconds that so many points take to be evaluated on ``report``, and to be trained again so many times."""
        evaluation = float(np.quantile(self._evaluations, _LONG)) if self._evaluations else 0.0
        return math.ceil(points / workers) * evaluation + math.ceil(points * replicates / workers) * self.training
