"""Layers that share one set of weights."""

from __future__ import annotations

from experiments.comparisons.columns import BYTES, LATENCY, PARAMETERS, QUALITY, RATIO, told
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Step

__all__ = ["COMPARISON"]


def _run(laboratory: Laboratory) -> Measured:
    recipes: dict[str, list[Step]] = {"uncompressed": []}
    for every in (2, 3, 6):
        for init in ("first", "mean"):
            recipes[f"{every} blocks share, from the {init}"] = [{"share_weights": {"every": every, "init": init}}, *laboratory.recover]
    rows = laboratory.rows(recipes)
    found = [told(row, rows[0], laboratory.quality, "parameters", "parameters") for row in rows[1:] if row.values]
    found.append("Sharing saves bytes, not time: every layer is still computed.")
    return Measured(rows, found, {})


COMPARISON = Comparison(
    "weight_sharing",
    "Weight sharing between blocks",
    "Consecutive blocks of a stack use one set of weights, that of the first of them or their mean; then the model recovers by distillation.",
    ("minilm", "resnet20"),
    (QUALITY, PARAMETERS, BYTES, LATENCY, RATIO),
    Curve("size_bytes", "quality"),
    _run,
)
