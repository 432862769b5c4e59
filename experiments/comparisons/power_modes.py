"""Power modes and sustained heat on a phone."""

from __future__ import annotations

from evaluators.devices.profile import load_profile
from experiments.comparisons.columns import change
from experiments.comparisons.comparison import Column, Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Row
from experiments.comparisons.recipes import smaller

__all__ = ["COMPARISON"]

_PHONE = "galaxy-s24/onnxruntime"


def _run(laboratory: Laboratory) -> Measured:
    rows = []
    for label, recipe in {"uncompressed": [], "pruned by 30 %, 8 bits": smaller(laboratory)}.items():
        for mode in load_profile("galaxy-s24").modes:
            costs = laboratory.priced(recipe, f"{_PHONE}:{mode}")
            values = {name: costs[name].value for name in ("latency_ms", "sustained_latency_ms", "energy_mj", "energy_per_hour_mwh")}
            rows.append(Row(f"{label}, {mode}", {**values, "slower": values["sustained_latency_ms"] / values["latency_ms"]}))
    found = [
        f"{row.label}: {row.values['slower']:.2f} times as slow when it is warm, {change(row, 'energy_mj', rows[0]):.2f} of the energy of {rows[0].label}."
        for row in rows
    ]
    labels = [row.label for row in rows]
    return Measured(rows, found, {name: [label for label in labels if label.startswith(name)] for name in ("uncompressed", "pruned by 30 %, 8 bits")})


COMPARISON = Comparison(
    "power_modes",
    "Power modes and sustained heat on a phone",
    "A Galaxy S24 in each of its power modes: the latency of a single inference, and that of inferences one after the other once the phone is warm. "
    "Everything here is predicted.",
    ("minilm", "resnet20", "digits"),
    (
        Column("latency_ms", "latency, ms", ".3g"),
        Column("sustained_latency_ms", "sustained, ms", ".3g"),
        Column("slower", "sustained, ratio", ".2f"),
        Column("energy_mj", "energy, mJ", ".3g"),
        Column("energy_per_hour_mwh", "an hour, mWh", ".3g"),
    ),
    Curve("latency_ms", "energy_mj"),
    _run,
)
