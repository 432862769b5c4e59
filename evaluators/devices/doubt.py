"""How far a fitted latency may be from the truth, candidate by candidate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.forms import PROCESSOR, Form
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
        form: what the features are.
        inference_ms: fixed cost of an inference.
    """

    spread: Floats
    residual: float
    fp32: float
    int8: float
    form: Form = PROCESSOR
    inference_ms: float = 0.0

    def width(self, op_classes: Sequence[str], integer: NDArray[np.bool_], times: KernelTimes) -> Floats:
        """``[candidates]`` factor by which the true latency may be larger or smaller; wider where it depends on work that measurements say little about.

        Args:
            op_classes: of the kernels.
            integer: ``[kernels, candidates]`` whether they compute in integers.
            times: of the kernels.
        """
        features, form = self.form.features, self.form
        in_integers = np.where(integer, times.compute, 0.0)
        parts = _sums(features, op_classes, lambda c: form.arithmetic(c, integer=False)[0], times.compute - in_integers)
        parts += _sums(features, op_classes, lambda c: form.arithmetic(c, integer=True)[0], in_integers)
        parts += _sums(features, op_classes, form.traffic, times.memory)
        parts[features.index("launch")] = times.launch.sum(axis=0)
        if "launch.int8" in features:
            integers = np.where(integer, times.launch, 0.0).sum(axis=0)
            parts[features.index("launch")] -= integers
            parts[features.index("launch.int8")] = integers
        if "inference" in features:
            parts[features.index("inference")] = self.inference_ms
        total = parts.sum(axis=0)
        share = in_integers.sum(axis=0) / np.maximum(times.compute.sum(axis=0), 1e-300)
        factor = self.fp32 + (self.int8 - self.fp32) * share
        shares = (parts / np.maximum(total, 1e-300)).T
        return np.asarray(np.exp(factor * scale(shares, self.spread, self.residual)))


def _sums(features: Sequence[str], op_classes: Sequence[str], feature_of: Callable[[str], str], times: Floats) -> Floats:
    """``[features, candidates]``: the times of the kernels, summed by feature; those of classes without one do not count."""
    places = {name: i for i, name in enumerate(features)}
    rows = {op_class: places.get(feature_of(op_class)) for op_class in set(op_classes)}
    chosen = np.zeros((len(features), len(op_classes)))
    for kernel, op_class in enumerate(op_classes):
        row = rows[op_class]
        if row is not None:
            chosen[row, kernel] = 1.0
    return np.asarray(chosen @ times)
