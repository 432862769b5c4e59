"""One compressed model on every device profile, a remote server among them."""

from __future__ import annotations

import numpy as np

from compressors.errors import UserError
from evaluators.devices.names import THIS_HOST, device_names, units_of
from experiments.comparisons.comparison import Column, Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Row
from experiments.comparisons.recipes import smaller

__all__ = ["COMPARISON"]


def _run(laboratory: Laboratory) -> Measured:
    rows = []
    for device in device_names():
        units = units_of(device)
        unit = next(iter(units), "")
        if device == THIS_HOST or not unit:
            continue
        runtime = "onnxruntime" if "onnxruntime" in units[unit] else units[unit][0]
        key = f"{device}/{runtime}" if unit == "cpu" or runtime in units[unit] else f"{device}.{unit}/{runtime}"
        try:
            before, after = (laboratory.priced(recipe, key) for recipe in ([], smaller(laboratory)))
        except UserError as error:
            rows.append(Row(key, {}, str(error).splitlines()[0]))
            continue
        was, now = before["latency_ms"], after["latency_ms"]
        values = {"before": was.value, "after": now.value, "low": now.low, "high": now.high, "ratio": now.value / was.value}
        rows.append(Row(f"{key} ({now.tier})", {**values, "energy": after["energy_mj"].value / before["energy_mj"].value}))
    rows.sort(key=lambda row: row.values.get("before") or np.inf)
    ratios = np.array([row.values["ratio"] for row in rows if row.values])
    slower = [row.label for row in rows if row.values and (row.values["ratio"] or 0) >= 1]
    middle, least, most = (float(f(ratios)) for f in (np.median, np.min, np.max))
    found = [
        f"{len(ratios)} devices: latency falls to {middle:.2f} of the uncompressed model's in the median, from {least:.2f} to {most:.2f}.",
        f"On {len(slower)} of them it does not fall{': ' + ', '.join(slower[:8]) if slower else ''}{' and others' if len(slower) > 8 else ''}.",
    ]
    return Measured(rows, found, {})


COMPARISON = Comparison(
    "all_devices",
    "One compressed model on every device",
    "The same smaller model, priced by the model of every device that compareto knows, in ONNX Runtime where the device has it. Everything here is "
    "predicted: the tier says from what.",
    ("minilm", "resnet20", "digits", "gestures"),
    (
        Column("before", "uncompressed ms", ".3g"),
        Column("after", "compressed ms", ".3g"),
        Column("low", "at least", ".3g"),
        Column("high", "at most", ".3g"),
        Column("ratio", "latency, ratio", ".2f"),
        Column("energy", "energy, ratio", ".2f"),
    ),
    Curve("before", "ratio"),
    _run,
    ("x", "y"),
)
