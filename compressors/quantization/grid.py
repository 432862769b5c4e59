"""The values that a frozen weight quantizer can express, spread over the elements of its weight."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from compressors.quantization.quantizer import WeightQuantizer, effective_granularity
from compressors.targets.site_spec import CHANNEL, TENSOR

__all__ = ["Grid"]


@dataclass(frozen=True, slots=True)
class Grid:
    """Of each element: ``(integer - zero) * scale``.

    Attributes:
        scale, zero: floats of the weight's shape.
        lowest, highest: integers.
    """

    scale: Tensor
    zero: Tensor
    lowest: int
    highest: int

    @classmethod
    def of(cls, quantizer: WeightQuantizer, weight: Tensor, shape: tuple[int, ...]) -> Grid:
        """That of a frozen quantizer of ``weight``, its elements laid out as ``shape``."""
        granularity = effective_granularity(quantizer.granularity, weight.shape)

        def spread(values: Tensor) -> Tensor:
            if granularity not in (TENSOR, CHANNEL):
                values = values.repeat_interleave(granularity, dim=1)
            elif granularity == CHANNEL:
                values = values.view(-1, *[1] * (weight.dim() - 1))
            return values.to(weight).expand(weight.shape).reshape(shape)

        return cls(spread(quantizer.scale), spread(quantizer.zero_point), quantizer.lowest, quantizer.highest)

    def nearest(self, weight: Tensor) -> Tensor:
        """The nearest values."""
        return (((weight / self.scale).round() + self.zero).clamp(self.lowest, self.highest) - self.zero) * self.scale
