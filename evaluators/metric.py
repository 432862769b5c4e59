"""Metrics and their values. Direction lives here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

__all__ = ["EXACT", "TIERS", "Estimate", "Metric"]

Direction = Literal["min", "max"]
Knowledge = Literal["exact", "predicted", "observed"]

TIERS = ("exact", "measured", "host-calibrated", "public-calibrated", "transferred", "spec-only")
"""How a value came to be known, best first."""


@dataclass(frozen=True, slots=True)
class Metric:
    """What is measured.

    Attributes:
        name: without a device, such as ``accuracy`` or ``latency_ms``.
        unit: for people: ``%``-free, ``ms``, ``B``, ``mJ``, ``nats`` or empty.
        direction: ``min`` where smaller is better.
        knowledge: ``exact`` (arithmetic), ``predicted`` (by a device model; needs ``@device``) or ``observed`` (needs the trained model).
        like: the metric that it is one of, or an average of, where its name is another.
    """

    name: str
    unit: str
    direction: Direction
    knowledge: Knowledge
    like: str = ""

    @property
    def is_accuracy(self) -> bool:
        """Whether it is told in per cent, and compared in points."""
        return (self.like or self.name) == "accuracy"

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is strictly better than ``b``."""
        return a < b if self.direction == "min" else a > b

    def minimised(self, value: float) -> float:
        """``value`` with its sign turned where larger is better."""
        return value if self.direction == "min" else -value


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with the interval that is believed to hold it (90 %), and its tier."""

    value: float
    low: float
    high: float
    tier: str = "measured"

    @classmethod
    def exact(cls, value: float) -> Self:
        """A value known without error."""
        return cls(value, value, value, "exact")

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        return {"value": self.value, "low": self.low, "high": self.high, "tier": self.tier}

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Self:
        """The reverse of ``to_plain``."""
        return cls(float(data["value"]), float(data["low"]), float(data["high"]), str(data["tier"]))


EXACT = {
    m.name: m
    for m in (
        Metric("parameters", "", "min", "exact"),
        Metric("macs", "", "min", "exact"),
        Metric("size_bytes", "B", "min", "exact"),
    )
}
"""Metrics that are arithmetic on the graph."""
