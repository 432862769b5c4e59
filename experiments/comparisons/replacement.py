"""Convolutions replaced by depthwise-separable ones: how many against quality and latency."""

from __future__ import annotations

from compressors.recipe import Recipe
from experiments.comparisons.columns import BYTES, LATENCY, MACS, PARAMETERS, QUALITY, RATIO, SPREAD, lost, told
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Step

__all__ = ["COMPARISON"]

_FRACTIONS = (0.25, 0.5, 0.75, 1.0)


def _run(laboratory: Laboratory) -> Measured:
    recipes: dict[str, list[Step]] = {"uncompressed": []}
    known: set[tuple[str, ...]] = set()
    for fraction in _FRACTIONS:
        step: Step = {"depthwise_separable": {"fraction": fraction}}
        replaced = laboratory.runner.plan(Recipe.from_plain([step]))[-1].separable
        # Of few convolutions two shares may be the same ones.
        if replaced not in known:
            known.add(replaced)
            recipes[f"separable {fraction:.0%}"] = [step, *laboratory.recover]
    everything: Step = {"depthwise_separable": {}}
    recipes["separable 100%, not recovered"] = [everything]
    recipes["separable 100%, reconstructed first"] = [everything, {"reconstruct": {}}, *laboratory.recover]
    rows = laboratory.rows(recipes)
    first, by_label = rows[0], {row.label: row for row in rows}
    found = [told(row, first, laboratory.quality, "macs", "MACs") for row in rows[1:] if row.values]
    plain, fitted = by_label["separable 100%"], by_label["separable 100%, reconstructed first"]
    if plain.values and fitted.values:
        gained = lost(plain, first, laboratory.quality.direction) - lost(fitted, first, laboratory.quality.direction)
        found.append(f"Fitting the convolutions of kernel 1 to the original layers before recovery changes {laboratory.quality.name} by {gained:+.3g}.")
    if not any((row.values["latency_ratio"] or 1) < 0.95 for row in rows[1:] if row.values):
        found.append("No share makes this model faster in the runtime: two small convolutions cost more than one saves.")
    shares = [row.label for row in rows[: len(known) + 1] if row.values]
    return Measured(rows, found, {"separable": shares})


COMPARISON = Comparison(
    "replacement",
    "Depthwise-separable convolutions by share",
    "A share of the dense spatial convolutions, those that lose the least first, becomes a depthwise and a pointwise one each, which start from the nearest "
    "separable weight; then the model recovers by distillation.",
    ("resnet20", "digits", "gestures"),
    (QUALITY, SPREAD, PARAMETERS, MACS, BYTES, LATENCY, RATIO),
    Curve("latency_ratio", "quality"),
    _run,
)
