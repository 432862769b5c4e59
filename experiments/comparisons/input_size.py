"""Size of the input against quality and latency: resolution of images, tokens of texts."""

from __future__ import annotations

from experiments.comparisons.columns import LATENCY, MACS, QUALITY, RATIO, SPREAD, told
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Row, Step

__all__ = ["COMPARISON"]

_SHARES = (0.875, 0.75, 0.625, 0.5, 0.375)


def _run(laboratory: Laboratory) -> Measured:
    task = laboratory.prepared.task
    native = min(next(iter(task.example_inputs.values())).shape[2:] or next(iter(task.example_inputs.values())).shape[1:])
    key, unit = ("image", "pixels") if task.name == "image-classification" else ("length", "tokens")
    sizes = sorted({round(share * native) for share in _SHARES}, reverse=True)
    recipes: dict[str, list[Step]] = {f"{native} {unit}": []}
    for size in sizes:
        recipes[f"{size} {unit}, as it is"] = [{"input_size": {key: size}}]
        recipes[f"{size} {unit}, trained"] = [{"input_size": {key: size}}, *laboratory.recover]
    recipes[f"{native} {unit}, trained"] = list(laboratory.recover)
    rows = laboratory.rows(recipes)
    first = rows[0]
    plain = [first, *(row for row in rows if row.label.endswith("as it is") and row.values)]
    trained = [rows[-1], *(row for row in rows[:-1] if row.label.endswith("trained") and row.values)]
    found = [told(row, first, laboratory.quality, "macs", "MACs") for row in rows[1:] if row.values]
    better = [row for row in trained[1:] if any(row.label.split(",")[0] == p.label.split(",")[0] and _better(laboratory, row, p) for p in plain)]
    found.append(f"Training at the smaller size is better than not to train at {len(better)} of {len(trained) - 1} sizes.")
    return Measured(rows, found, {"as it is": [row.label for row in plain], "trained at its size": [row.label for row in trained]})


def _better(laboratory: Laboratory, row: Row, other: Row) -> bool:
    ours, theirs = row.values["quality"] or 0.0, other.values["quality"] or 0.0
    return ours > theirs if laboratory.quality.direction == "max" else ours < theirs


COMPARISON = Comparison(
    "input_size",
    "Input size against quality and latency",
    "Images of fewer pixels and texts of fewer tokens, given to the model as it is, and after training at that size: distillation from the uncompressed model, "
    "which sees whole inputs. Latency is that of each model at its own size.",
    ("resnet20", "digits", "minilm"),
    (QUALITY, SPREAD, MACS, LATENCY, RATIO),
    Curve("latency_ratio", "quality"),
    _run,
)
