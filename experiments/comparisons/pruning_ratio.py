"""Pruning ratio against MACs, quality and latency: whole channels, and single weights."""

from __future__ import annotations

from experiments.comparisons.columns import BYTES, LATENCY, MACS, PARAMETERS, QUALITY, RATIO, SPREAD, knee, lost, told
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Step

__all__ = ["COMPARISON"]

_RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def _run(laboratory: Laboratory) -> Measured:
    kind = "channels" if any(axis.kind == "channels" for axis in laboratory.prepared.graph.prunable) else "ffn"
    recipes: dict[str, list[Step]] = {"uncompressed": []}
    for ratio in _RATIOS:
        recipes[f"{kind} {ratio:.0%}"] = [{"prune": {"ratio": {kind: ratio}}}, *laboratory.recover]
    for ratio in _RATIOS:
        recipes[f"weights {ratio:.0%}"] = [{"sparsify": {"ratio": ratio}}, *laboratory.recover]
    rows = laboratory.rows(recipes)
    first, direction = rows[0], laboratory.quality.direction
    structured = [first, *(row for row in rows if row.label.startswith(kind) and row.values)]
    single = [first, *(row for row in rows if row.label.startswith("weights") and row.values)]
    best = knee(structured, "macs", "quality")
    by_label = {row.label: row for row in rows}
    found = [f"The knee of {kind} is {told(best, first, laboratory.quality, 'macs', 'MACs')}"]
    at = [by_label[f"{kind} {share}"] for share in ("20%", "50%")]
    found += [told(row, first, laboratory.quality, "parameters", "parameters") for row in at if row.values]
    slower = [row.label for row in structured if (row.values["latency_ratio"] or 0) > 1]
    if slower:
        found.append(f"Fewer {kind} are not faster in this runtime by themselves; slower than the uncompressed model: {', '.join(slower)}.")
    last = single[-1]
    found.append(
        f"Single weights set to zero do not make the runtime faster: {last.label}, {last.values['latency_ratio']:.2f} of the latency, "
        f"{lost(last, first, direction):+.3g} {laboratory.quality.name} lost."
        if (last.values["latency_ratio"] or 0) > 0.9
        else f"{last.label}: {last.values['latency_ratio']:.2f} of the latency, {lost(last, first, direction):+.3g} {laboratory.quality.name} lost."
    )
    return Measured(rows, found, {kind: [row.label for row in structured], "weights": [row.label for row in single]})


COMPARISON = Comparison(
    "pruning_ratio",
    "Pruning ratio against quality, MACs and latency",
    "How far can one prune? The smallest channels by l2 are removed, or the smallest single weights set to zero, then the model recovers by distillation; "
    "every ratio starts from the uncompressed model.",
    ("resnet20", "digits", "gestures"),
    (QUALITY, SPREAD, PARAMETERS, MACS, BYTES, LATENCY, RATIO),
    Curve("latency_ratio", "quality"),
    _run,
)
