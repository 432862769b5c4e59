"""Integers whose ranges are found at run time, or beforehand."""

from __future__ import annotations

from experiments.comparisons.columns import BYTES, LATENCY, QUALITY, RATIO, told
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Step

__all__ = ["COMPARISON"]


def _run(laboratory: Laboratory) -> Measured:
    common = {"weight_bits": 8, "activation_bits": 8}
    recipes: dict[str, list[Step]] = {
        "float": [],
        "weights alone": [{"quantize": {"weight_bits": 8, "activation_bits": 32}}],
        "dynamic": [{"quantize": {**common, "mode": "dynamic"}}],
        "static": [{"quantize": {**common, "mode": "static"}}],
    }
    rows = laboratory.rows(recipes)
    found = [told(row, rows[0], laboratory.quality, "size_bytes", "bytes") for row in rows[1:] if row.values]
    return Measured(rows, found, {})


COMPARISON = Comparison(
    "dynamic_and_static",
    "Dynamic against static int8",
    "Dynamic quantization measures the range of each activation while the model runs, static quantization beforehand on calibration data.",
    ("minilm", "resnet20", "digits", "gestures"),
    (QUALITY, BYTES, LATENCY, RATIO),
    Curve("latency_ms", "quality"),
    _run,
)
