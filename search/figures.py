"""Figures as people read them: a value with its unit and, where it is not exact, its interval."""

from __future__ import annotations

import math
import re

from evaluators.metric import Metric

__all__ = ["change", "figure", "interval", "short_name"]

_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_COUNTS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def _scale(metric: Metric, value: float) -> tuple[float, str]:
    """Divisor and unit that suit a value of this size."""
    if metric.is_accuracy:
        return 0.01, "%"
    if metric.unit == "B" or (not metric.unit and metric.knowledge == "exact"):
        for size, unit in _BYTES if metric.unit == "B" else _COUNTS:
            if abs(value) >= size:
                return size, unit
    return 1.0, metric.unit


def _digits(metric: Metric, value: float) -> str:
    """Fractions to a tenth of a point, so that a column of them lines up; everything else to three digits."""
    if not math.isfinite(value):
        return "-"
    if metric.is_accuracy:
        return f"{value:.1f}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def figure(metric: Metric, value: float) -> str:
    """``97.2 %``, ``0.341 ms``, ``12.3 kB``, ``1.2 M``; ``-`` where unknown."""
    if not math.isfinite(value):
        return "-"
    divisor, unit = _scale(metric, value)
    return f"{_digits(metric, value / divisor)} {unit}".rstrip()


def interval(metric: Metric, value: float, low: float, high: float) -> str:
    """The 90 % interval in the unit that ``figure`` chose for the value, ``95.1-98.4``; empty where the value is exact."""
    if low == high or not math.isfinite(value):
        return ""
    divisor, _ = _scale(metric, value)
    return f"{_digits(metric, low / divisor)}-{_digits(metric, high / divisor)}"


def change(metric: Metric, before: float, after: float) -> str:
    """What became of a figure: ``parameters -38 %``, ``latency 0.62x``, ``accuracy -0.4 points``."""
    label = re.sub(r"_(ms|mj|bytes)$", "", metric.name).replace("_", " ")
    if metric.is_accuracy:
        return f"{label} {100 * (after - before):+.1f} points"
    if metric.knowledge == "observed" or before == 0:
        return f"{label} {after - before:+.3g}"
    if metric.knowledge == "predicted":
        return f"{label} {after / before:.2f}x"
    return f"{label} {100 * (after / before - 1):+.0f} %"


def short_name(name: str) -> str:
    """A metric's name without its device."""
    return name.partition("@")[0]
