"""A quality seen through log-odds: near its worst and its best, where networks collapse or are saturated, equal steps of quality are not equal causes."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["LogOdds", "Warped"]

_Array = NDArray[np.float64]
_BELOW, _ABOVE = 0.03, 0.1
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(12)
_SHARES = _WEIGHTS / _WEIGHTS.sum()


class _Model(Protocol):
    def predict(self, features: _Array) -> tuple[_Array, _Array]: ...


class LogOdds:
    """From qualities between ``worst`` and ``best``, and a little beyond, to the logarithm of their odds and back."""

    def __init__(self, worst: float, best: float) -> None:
        span = best - worst if best > worst else max(abs(best), 1.0)
        self._low, self._span = worst - _BELOW * span, (1 + _BELOW + _ABOVE) * span

    def forward(self, quality: _Array, variance: _Array) -> tuple[_Array, _Array]:
        """Log-odds and the variance of their noise, to first order."""
        share = np.clip((quality - self._low) / self._span, 1e-3, 1 - 1e-3)
        return np.log(share / (1 - share)), variance / (self._span * share * (1 - share)) ** 2

    def back(self, odds: _Array) -> _Array:
        """Qualities."""
        result: _Array = self._low + self._span * expit(odds)
        return result


class Warped:
    """A model of log-odds as a model of quality, by Gauss-Hermite quadrature."""

    def __init__(self, model: _Model, warp: LogOdds) -> None:
        self._model, self._warp = model, warp

    def predict(self, features: _Array) -> tuple[_Array, _Array]:
        """Mean and standard deviation of the quality, each ``[candidates]``."""
        mean, deviation = self._model.predict(features)
        quality = self._warp.back(mean[:, None] + deviation[:, None] * _NODES)
        center = quality @ _SHARES
        return center, np.sqrt(np.maximum(((quality - center[:, None]) ** 2) @ _SHARES, 1e-18))
