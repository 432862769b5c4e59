"""Nonlinear least squares, small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["minimise"]

Floats = NDArray[np.float64]


def minimise(residuals: Callable[[Floats], Floats], start: Floats, steps: int = 60) -> Floats:
    """Levenberg-Marquardt with numerical derivatives."""
    p, damping = start.copy(), 1.0
    r = residuals(p)
    for _ in range(steps):
        jacobian = np.stack([(residuals(p + 1e-5 * e) - r) / 1e-5 for e in np.eye(len(p))], axis=1)
        step = np.linalg.solve(jacobian.T @ jacobian + damping * np.eye(len(p)), -jacobian.T @ r)
        trial = residuals(p + step)
        if trial @ trial < r @ r:
            p, r, damping = p + step, trial, damping / 3
        else:
            damping *= 4
    return p
