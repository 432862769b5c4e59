"""Which trials train on: those that could still reach the front, judged by exact costs and by what a part of their training says of the whole.

As in successive halving, a trial first runs a part of its training, a rung [Li2020]. Here it goes on where its quality after the whole training, as a
Gaussian process expects it from the rung's quality and the costs, would not be dominated one standard deviation above that expectation: promotion is by
Pareto rank under uncertainty, never by one metric. A rung says something only where it orders trials as the whole training does, so it is used only where
that was seen.

[Li2020] L. Li et al. A system for massively parallel hyperparameter tuning. MLSys 2020.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from search.algorithms.gaussian_process import GaussianProcess, fitted, standard

__all__ = ["Promotion"]

_Array = NDArray[np.float64]
_FIRST = 12
"""Trials that run to the end before a rung is judged."""
_CORRELATION = 0.5
_DEVIATIONS = 1.0
_MOST = 200
"""Trials, the latest, that a rung's model is fitted to."""


class Promotion:
    """Told of every rung and every end, says who goes on.

    Args:
        rungs: parts of the training at which trials are looked at, rising, each in (0, 1).
        floor: a quality, larger is better, below which a trial is of no use; minus infinity where there is none.
    """

    def __init__(self, rungs: Sequence[float], floor: float = -math.inf) -> None:
        self._rungs, self._floor = tuple(rungs), floor
        self._running: dict[str, tuple[_Array, dict[float, float]]] = {}
        self._pairs: dict[float, list[tuple[float, _Array, float]]] = {rung: [] for rung in self._rungs}
        self._front = np.zeros((0, 0))
        self._known: dict[float, tuple[int, float]] = {}
        self._models: dict[float, tuple[int, _Rung]] = {}

    @property
    def rungs(self) -> tuple[float, ...]:
        """The parts at which a new trial is looked at: all of them until enough trials have ended, then those that order trials as their ends do."""
        return tuple(rung for rung in self._rungs if self.correlation(rung) is None or self._judges(rung))

    def correlation(self, rung: float) -> float | None:
        """Spearman's rank correlation of the quality at a rung and at the end; None before enough trials have both."""
        pairs = self._pairs[rung]
        if len(pairs) < _FIRST:
            return None
        if self._known.get(rung, (0, 0.0))[0] != len(pairs):
            parts, _, ends = zip(*pairs, strict=True)
            same = np.ptp(parts) == 0 or np.ptp(ends) == 0
            self._known[rung] = len(pairs), 0.0 if same else float(spearmanr(parts, ends).statistic)
        return self._known[rung][1]

    def reached(self, trial: str, rung: float, costs: Sequence[float], quality: float) -> None:
        """A trial has run a part of its training.

        Args:
            trial: its id.
            rung: the part.
            costs: exact, smaller is better.
            quality: observed, larger is better.
        """
        parts = self._running.get(trial, (None, {}))[1]
        self._running[trial] = np.asarray(costs, dtype=np.float64), {**parts, rung: quality}

    def ended(self, trial: str, costs: Sequence[float], quality: float) -> None:
        """A trial, or a baseline, has run to its end; arguments as for ``reached``."""
        _, parts = self._running.pop(trial, (None, {}))
        for rung, part in parts.items():
            if rung in self._pairs:
                self._pairs[rung].append((part, np.asarray(costs, dtype=np.float64), quality))
        row = np.append(np.asarray(costs, dtype=np.float64), -quality)[None]
        self._front = row if not self._front.size else np.vstack([self._front[~(row <= self._front).all(axis=1)], row])

    def dropped(self, trial: str) -> None:
        """A trial will not go on."""
        self._running.pop(trial, None)

    def expected(self, trial: str) -> tuple[float, float] | None:
        """Mean and standard deviation of a trial's quality after the whole training; None where no rung that it has reached tells."""
        if trial not in self._running:
            return None
        costs, parts = self._running[trial]
        for rung in sorted(parts, reverse=True):
            if self._judges(rung):
                return self._model(rung).predict(parts[rung], costs)
        return None

    def promising(self, trial: str) -> bool:
        """Whether a trial could still reach the front, or nothing is known of that."""
        found = self.expected(trial)
        if found is None:
            return True
        hoped = found[0] + _DEVIATIONS * found[1]
        point = np.append(self._running[trial][0], -hoped)
        return hoped >= self._floor and not (self._front <= point).all(axis=1).any()

    def best(self, trials: Iterable[str]) -> str | None:
        """The one of some trials that goes on first: of the promising ones, that which the fewest others dominate in hope; None where none is promising."""
        hopes = {trial: self.expected(trial) for trial in trials if trial in self._running and self.promising(trial)}
        if not hopes:
            return None
        names = list(hopes)
        found = [found or (math.inf, 0.0) for found in hopes.values()]
        points = np.array([[*self._running[name][0], -(mean + _DEVIATIONS * std)] for name, (mean, std) in zip(names, found, strict=True)])
        rank = [int(((points <= point).all(axis=1) & (points < point).any(axis=1)).sum()) for point in points]
        return names[int(np.argmin(rank))]

    def _judges(self, rung: float) -> bool:
        return rung in self._pairs and (self.correlation(rung) or 0.0) > _CORRELATION

    def _model(self, rung: float) -> _Rung:
        pairs = self._pairs[rung]
        if self._models.get(rung, (0, None))[0] != len(pairs):
            self._models[rung] = len(pairs), _Rung(pairs[-_MOST:])
        return self._models[rung][1]


class _Rung:
    """From the quality at one rung, and the costs, to the quality at the end."""

    def __init__(self, rows: Sequence[tuple[float, _Array, float]]) -> None:
        table = np.array([[part, *costs] for part, costs, _ in rows])
        ends = np.array([end for _, _, end in rows])
        self._low, self._span = table.min(axis=0), np.ptp(table, axis=0)
        features, nothing = self._features(table), np.zeros(len(rows))
        theta, (shift, scale) = fitted(features, ends, nothing), standard(ends)
        self._process = GaussianProcess(features, ends, nothing, theta, shift, scale)
        self._noise = scale * math.exp(theta[-1] / 2)

    def predict(self, part: float, costs: _Array) -> tuple[float, float]:
        mean, deviation = self._process.predict(self._features(np.array([[part, *costs]])))
        return float(mean[0]), math.hypot(float(deviation[0]), self._noise)

    def _features(self, table: _Array) -> _Array:
        result: _Array = (table - self._low) / np.where(self._span > 0, self._span, 1.0)
        return result
