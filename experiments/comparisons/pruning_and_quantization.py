"""Pruning, quantization, and both."""

from __future__ import annotations

from experiments.comparisons.columns import BYTES, LATENCY, MACS, QUALITY, RATIO, SPREAD, change, lost
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Step
from experiments.comparisons.recipes import integers

__all__ = ["COMPARISON"]


def _run(laboratory: Laboratory) -> Measured:
    prune: Step = {"prune": {"ratio": 0.3}}
    whole, four = integers(laboratory, 8), integers(laboratory, 4)
    recipes: dict[str, list[Step]] = {
        "uncompressed": [],
        "pruned by 30 %": [prune, *laboratory.recover],
        "8 bits": [whole],
        "4-bit weights": [four],
        "pruned by 30 %, 8 bits": [prune, *laboratory.recover, whole],
        "pruned by 30 %, 4-bit weights": [prune, *laboratory.recover, four],
    }
    rows = laboratory.rows(recipes)
    first, direction = rows[0], laboratory.quality.direction
    found = [
        f"{row.label}: {1 / change(row, 'size_bytes', first):.1f} times smaller, {1 / (row.values['latency_ratio'] or 1):.2f} times as fast, "
        f"{lost(row, first, direction):+.3g} {laboratory.quality.name} lost."
        for row in rows[1:]
        if row.values
    ]
    return Measured(rows, found, {})


COMPARISON = Comparison(
    "pruning_and_quantization",
    "Pruning, quantization, and both",
    "What does each give, and do they add up? 30 % of the units are pruned by l2 and the model recovers by distillation; integers come after the training.",
    ("resnet20", "minilm", "digits", "gestures"),
    (QUALITY, SPREAD, MACS, BYTES, LATENCY, RATIO),
    Curve("size_bytes", "quality"),
    _run,
)
