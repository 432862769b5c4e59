"""How one weight, and the activation that enters its operator, are quantized: what a target's annotator is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["CHANNEL", "TENSOR", "Observer", "Rounding", "SiteMethod", "SiteSpec", "WeightRange"]

Observer = Literal["min-max", "percentile", "mse", "entropy"]
WeightRange = Literal["min-max", "mse"]
Rounding = Literal["nearest", "gptq", "adaround"]

TENSOR, CHANNEL = -1, 0
"""Granularities that are no size of a group."""


@dataclass(frozen=True, slots=True)
class SiteMethod:
    """How integers are found; changes no size and no speed.

    Attributes:
        observer: how the range of a static activation follows from the calibration data.
        weight_range: how the scale of a weight follows from its values.
        rounding: of the weight.
        bias_correction: whether the mean shift of the operator's output is taken out of its bias.
    """

    observer: Observer = "mse"
    weight_range: WeightRange = "mse"
    rounding: Rounding = "nearest"
    bias_correction: bool = False


@dataclass(frozen=True, slots=True)
class SiteSpec:
    """One site of a graph that is to be quantized.

    Attributes:
        name: of the weight in the model's state dict.
        weight_bits: 2, 3, 4 or 8.
        activation_bits: 8 or 16 (integers), or 32 (float).
        granularity: of the weight's scales: ``TENSOR``, ``CHANNEL`` (one for each output channel or row) or the size of a group along the input.
        symmetric: whether the weight has no zero point.
        method: how integers are found.
    """

    name: str
    weight_bits: int
    activation_bits: int
    granularity: int = CHANNEL
    symmetric: bool = True
    method: SiteMethod = field(default_factory=SiteMethod)
