"""Gaussian process regression [Rasmussen2006] in numpy: Matérn-5/2 with a length scale for each dimension, noise known in part and learned in part.

Length scales have the priors of [Hvarfner2024], which grow with the number of dimensions; all hyperparameters are at the maximum of the posterior.

[Rasmussen2006] C. E. Rasmussen, C. K. I. Williams. Gaussian Processes for Machine Learning. MIT Press, 2006.
[Hvarfner2024] C. Hvarfner, E. O. Hellsten, L. Nardi. Vanilla Bayesian optimization performs great in high dimensions. ICML 2024.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

__all__ = ["GaussianProcess", "fitted", "standard"]

_Array = NDArray[np.float64]
_SQRT5 = 5.0**0.5
_JITTER = 1e-6
_NOISE_MEAN, _NOISE_KNOWN, _NOISE_DEVIATION = -4.0, -7.0, 1.0
"""Of the logarithm of the learned share of noise in the variance, where that of each value is unknown, and where it is known."""
_SCALE_DEVIATION = 3.0**0.5
_MOST = 200
"""Points that hyperparameters are fitted to; every point counts in predictions."""
_STEPS = 40


class GaussianProcess:
    """A posterior, given hyperparameters.

    Args:
        features: ``[points, features]`` in [0, 1].
        values: ``[points]``.
        variance: ``[points]`` known variance of the noise of each value, 0 where nothing is known, in squared units of ``values``.
        theta: ``[features + 1]`` logarithms of the length scales, then of the learned variance of noise as a share of that of ``values``.
        shift, scale: what ``values`` are standardized by.
    """

    def __init__(self, features: _Array, values: _Array, variance: _Array, theta: _Array, shift: float, scale: float) -> None:
        self._shift, self._scale = shift, scale
        self._lengths = np.exp(theta[:-1])
        self._x = features / self._lengths
        noise = variance / scale**2 + np.exp(theta[-1]) + _JITTER
        self._factor = cholesky(_matern(_distances(self._x, self._x)) + np.diag(noise), lower=True)
        self._weights = cho_solve((self._factor, True), (values - shift) / scale)

    def predict(self, features: _Array) -> tuple[_Array, _Array]:
        """Mean and standard deviation of the value without noise, each ``[candidates]``."""
        cross = _matern(_distances(features / self._lengths, self._x))
        solved = solve_triangular(self._factor, cross.T, lower=True)
        variance = np.maximum(1.0 - (solved**2).sum(axis=0), 1e-12)
        return self._shift + self._scale * (cross @ self._weights), self._scale * np.sqrt(variance)


def fitted(features: _Array, values: _Array, variance: _Array, start: _Array | None = None) -> _Array:
    """Hyperparameters ``theta`` of a ``GaussianProcess`` at the maximum of their posterior.

    Args:
        features: as there; where points are many, hyperparameters are fitted to the latest and an even choice of the rest.
        values: as there.
        variance: as there.
        start: where to start from as well, such as the maximum for fewer points.
    """
    count, dimensions = features.shape
    if count > _MOST:
        rows = np.concatenate([np.linspace(0, count - _MOST // 2 - 1, _MOST // 2).astype(int), np.arange(count - _MOST // 2, count)])
        features, values, variance = features[rows], values[rows], variance[rows]
    shift, scale = standard(values)
    y, known = (values - shift) / scale, variance / scale**2
    usual = _NOISE_KNOWN if (known > 0).all() else _NOISE_MEAN
    typical = np.append(np.full(dimensions, 2.0**0.5 + 0.5 * np.log(max(dimensions, 1))), usual)
    width = np.append(np.full(dimensions, _SCALE_DEVIATION), _NOISE_DEVIATION)

    def loss(theta: _Array) -> tuple[float, _Array]:
        seen = features / np.exp(theta[:-1])
        distance = _distances(seen, seen)
        decay = np.exp(-_SQRT5 * distance)
        noise = np.exp(theta[-1])
        kernel = (1 + _SQRT5 * distance + 5 / 3 * distance**2) * decay
        try:
            factor = cholesky(kernel + np.diag(known + noise + _JITTER), lower=True)
        except np.linalg.LinAlgError:
            return 1e10, np.zeros_like(theta)
        weights = cho_solve((factor, True), y)
        # Derivatives of the negative logarithm of the likelihood: by the kernel matrix, then by half of the squared distances.
        slope = 0.5 * (cho_solve((factor, True), np.eye(len(y))) - np.outer(weights, weights))
        pull = slope * (5 / 3) * (1 + _SQRT5 * distance) * decay
        by_length = 2 * (seen * (pull.sum(axis=1)[:, None] * seen - pull @ seen)).sum(axis=0)
        away = (theta - typical) / width
        value = 0.5 * y @ weights + np.log(np.diag(factor)).sum() + 0.5 * away @ away
        return float(value), np.append(by_length, noise * np.trace(slope)) + away / width

    bounds = [(-4.0, 6.0)] * dimensions + [(-12.0, 0.0)]
    # The prior's mode asks for longer scales than data of a few dozen points support: start a little shorter.
    shorter = np.append(np.full(dimensions, 0.5 * np.log(max(dimensions, 1))), usual)
    starts = [shorter] if start is None else [shorter, start]
    found = [minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _STEPS}) for first in starts]
    theta: _Array = np.asarray(min(found, key=lambda result: result.fun).x, dtype=np.float64)
    return theta


def standard(values: _Array) -> tuple[float, float]:
    """Mean and standard deviation, the latter 1 where all values are the same."""
    scale = float(values.std())
    return float(values.mean()), scale if scale > 1e-9 * max(1.0, float(np.abs(values).max())) else 1.0


def _distances(a: _Array, b: _Array) -> _Array:
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    result: _Array = np.sqrt(np.maximum(square, 0.0))
    return result


def _matern(distance: _Array) -> _Array:
    result: _Array = (1 + _SQRT5 * distance + 5 / 3 * distance**2) * np.exp(-_SQRT5 * distance)
    return result
