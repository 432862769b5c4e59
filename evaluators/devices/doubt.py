"""How far a fitted latency may be from the truth, candidate by candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.features import COMPUTE_AS, FEATURES, MOVED_AS
from evaluators.devices.fitting.intervals import scale
from evaluators.devices.kernel_time import KernelTimes

__all__ = ["Doubt"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Doubt:
    """Conformal intervals; see ``evaluators.devices.fitting.intervals``.

    Attributes:
        spread: ``[features, features]`` covariance of what is known of the logarithm of a setting's costs.
        residual: standard deviation of the logarithm of a latency whose costs are known.
        fp32, int8: how many standard deviations hold 90 % of held-out networks that compute in floats, in integers.
    """

    spread: Floats
    residual: float
    fp32: float
    int8: float

    def width(self, op_classes: Sequence[str], integer: NDArray[np.bool_], times: KernelTimes) -> Floats:
        """``[candidates]`` factor by which the true latency may be larger or smaller; wider where it depends on work that measurements say little about.

        Args:
            op_classes: of the kernels.
            integer: ``[kernels, candidates]`` whether they compute in integers.
            times: of the kernels.
        """
        parts = np.zeros((len(FEATURES), times.compute.shape[1]))
        in_integers = np.where(integer, times.compute, 0.0)
        _add(parts, [f"macs.{COMPUTE_AS.get(c, c)}" for c in op_classes], times.compute - in_integers)
        _add(parts, [f"macs.{COMPUTE_AS.get(c, c)}.int8" for c in op_classes], in_integers)
        _add(parts, [f"moved.{MOVED_AS.get(c, c)}" for c in op_classes], times.memory)
        parts[FEATURES.index("launch")] = times.launch.sum(axis=0)
        total = parts.sum(axis=0)
        share = in_integers.sum(axis=0) / np.maximum(times.compute.sum(axis=0), 1e-300)
        factor = self.fp32 + (self.int8 - self.fp32) * share
        shares = (parts / np.maximum(total, 1e-300)).T
        return np.asarray(np.exp(factor * scale(shares, self.spread, self.residual)))


def _add(parts: Floats, features: Sequence[str], times: Floats) -> None:
    """Add the rows of ``times`` to those of their features."""
    chosen = np.zeros((len(FEATURES), len(features)))
    for kernel, feature in enumerate(features):
        if feature in FEATURES:
            chosen[FEATURES.index(feature), kernel] = 1.0
        elif feature == "macs.grouped.int8":
            chosen[FEATURES.index("macs.conv.int8"), kernel] = 1.0
    parts += chosen @ times
