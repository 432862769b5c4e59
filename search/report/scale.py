"""From values to positions along an axis, with ticks at round values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

__all__ = ["Scale"]


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear axis from ``low`` to ``high`` (values), drawn from ``start`` to ``end`` (pixels)."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> Self:
        """The axis that holds all values with a margin of a twentieth; it does not cross zero because of the margin."""
        low, high = min(values), max(values)
        margin = (high - low) / 20 or abs(high) / 20 or 1.0
        floor = low - margin
        return cls(0.0 if low >= 0 > floor else floor, high + margin, start, end)

    def __call__(self, value: float) -> float:
        """Position of a value, in pixels."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, about: int = 6) -> list[float]:
        """Round values within the axis, about so many: multiples of 1, 2 or 5 times a power of ten."""
        raw = (self.high - self.low) / max(about, 1)
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]
