"""Low-rank factors: the rank against quality and latency."""

from __future__ import annotations

from experiments.comparisons.columns import BYTES, LATENCY, MACS, QUALITY, RATIO, SPREAD, change, told
from experiments.comparisons.comparison import Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Step

__all__ = ["COMPARISON"]

_RANKS = (0.6, 0.5, 0.4, 0.3, 0.2, 0.1)


def _run(laboratory: Laboratory) -> Measured:
    recipes: dict[str, list[Step]] = {"uncompressed": []}
    recipes |= {f"rank {rank:.0%}": [{"low_rank": {"rank": rank}}, *laboratory.recover] for rank in _RANKS}
    rows = laboratory.rows(recipes)
    first = rows[0]
    faster = [row for row in rows[1:] if row.values and (row.values["latency_ratio"] or 1) < 0.95]
    found = [told(row, first, laboratory.quality, "macs", "MACs") for row in rows[1:] if row.values]
    least = min(change(row, "macs", first) for row in rows[1:] if row.values)
    if least > 0.95:
        found.append(f"Linear layers and convolutions of kernel 1 are factorised: they have little of the work here, {least:.3f} of the MACs stay.")
    elif not faster:
        found.append("No rank makes this model faster in the runtime: two small layers cost more launches than one layer saves.")
    return Measured(rows, found, {})


COMPARISON = Comparison(
    "low_rank_ranks",
    "Low-rank factors by rank",
    "Every layer for which it saves arithmetic becomes two, by the singular value decomposition, at a share of its full rank; then the model recovers by "
    "distillation.",
    ("minilm", "resnet20", "digits"),
    (QUALITY, SPREAD, MACS, BYTES, LATENCY, RATIO),
    Curve("latency_ratio", "quality"),
    _run,
)
