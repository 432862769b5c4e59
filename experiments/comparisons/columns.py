"""Columns that most tables have."""

from __future__ import annotations

from collections.abc import Sequence

from evaluators.metric import Metric
from experiments.comparisons.comparison import Column
from experiments.comparisons.laboratory import Row

__all__ = ["BYTES", "LATENCY", "MACS", "PARAMETERS", "QUALITY", "RATIO", "SPREAD", "change", "knee", "lost", "told"]

QUALITY = Column("quality", "QUALITY on report", ".4g")
SPREAD = Column("quality_sd", "sd between seeds", ".2g")
PARAMETERS = Column("parameters", "parameters", ",.0f")
MACS = Column("macs", "MACs", ",.0f")
BYTES = Column("size_bytes", "stored bytes", ",.0f")
LATENCY = Column("latency_ms", "measured ms", ".3g")
RATIO = Column("latency_ratio", "of the uncompressed", ".2f")


def change(row: Row, key: str, first: Row) -> float:
    """A figure as a share of the first row's."""
    return (row.values[key] or 0.0) / (first.values[key] or 1.0)


def lost(row: Row, first: Row, direction: str) -> float:
    """Quality lost against the first row, positive where it got worse."""
    difference = (first.values["quality"] or 0.0) - (row.values["quality"] or 0.0)
    return difference if direction == "max" else -difference


def told(row: Row, first: Row, quality: Metric, key: str, called: str) -> str:
    """What a row has of the first one's ``key``, and of its latency, and what it lost."""
    kept = f"{change(row, key, first):.2f} of the {called}, {row.values['latency_ratio']:.2f} of the latency"
    return f"{row.label}: {kept}, {lost(row, first, quality.direction):+.3g} {quality.name} lost."


def knee(rows: Sequence[Row], x: str, y: str) -> Row:
    """The row farthest from the line between the first and the last, both axes scaled to their range [Satopaa2011]."""
    points = [(row.values[x] or 0.0, row.values[y] or 0.0) for row in rows]
    (x0, y0), (x1, y1) = points[0], points[-1]
    wide, high = (x1 - x0) or 1.0, (y1 - y0) or 1.0
    distances = [abs((px - x0) / wide - (py - y0) / high) for px, py in points]
    return rows[distances.index(max(distances))]
