"""Distillation: temperature by weight, against plain fine-tuning of the same length."""

from __future__ import annotations

from experiments.comparisons.columns import QUALITY, SPREAD, lost
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Step

__all__ = ["COMPARISON"]

_TEMPERATURES, _ALPHAS = (1, 2, 4, 8), (0.3, 0.6, 0.9)


def _run(laboratory: Laboratory) -> Measured:
    prune: Step = {"prune": {"ratio": 0.5}}

    def trained(**settings: float) -> list[Step]:
        return [prune, {"distill": {**laboratory.recovery, **settings}}]

    recipes: dict[str, list[Step]] = {"pruned by half, not trained": [prune], "fine-tuned": trained(alpha=0.0)}
    recipes |= {f"T {t}, alpha {a}": trained(temperature=t, alpha=a) for a in _ALPHAS for t in _TEMPERATURES}
    rows = laboratory.rows(recipes, timed=False)
    direction, plain = laboratory.quality.direction, rows[1]
    grid = sorted(rows[2:], key=lambda row: lost(row, plain, direction))
    better = sum(lost(row, plain, direction) < 0 for row in grid)
    spread = max((row.values.get("quality_sd") or 0.0) for row in rows)
    found = []
    found.append(
        f"{better} of {len(grid)} settings are better than fine-tuning of the same length; the best, {grid[0].label}, by "
        f"{-lost(grid[0], plain, direction):.3g}, the worst, {grid[-1].label}, by {-lost(grid[-1], plain, direction):.3g} {laboratory.quality.name}."
    )
    if laboratory.seeds > 1:
        found.append(f"The largest standard deviation between {laboratory.seeds} seeds is {spread:.2g}: differences below twice that say little.")
    with_t = [type(row)(row.label, {**row.values, "temperature": float(row.label.split(",")[0][2:])}) for row in rows[2:]]
    flat = [type(plain)(plain.label, {**plain.values, "temperature": float(_TEMPERATURES[0])})]
    groups = {f"alpha {a}": [f"T {t}, alpha {a}" for t in _TEMPERATURES] for a in _ALPHAS}
    return Measured([rows[0], *flat, *with_t], found, {**groups, "fine-tuned": ["fine-tuned"]})


COMPARISON = Comparison(
    "distillation_grid",
    "Distillation: temperature by weight, against none",
    "Half of the units are pruned by l2; then the model is trained for the same steps, on labels alone or also on the uncompressed model's "
    "outputs, softened by T and weighted by alpha.",
    ("resnet20", "digits", "gestures"),
    (QUALITY, SPREAD),
    Curve("temperature", "quality"),
    _run,
)
