"""A compressed model behind HTTP beside the uncompressed one: requests, waiting, memory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from experiments.comparisons.columns import BYTES, QUALITY, lost
from experiments.comparisons.comparison import Column, Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Row, Step
from experiments.comparisons.recipes import integers
from search.quantities import format_bytes
from search.serving.comparison import compare
from search.serving.requirements import require_serve
from search.serving.served import Catalogue
from search.serving.settings import ServingSettings

__all__ = ["COMPARISON"]

_PORT = 8473
_SECONDS = 15.0
_CONCURRENCY = 8


def _run(laboratory: Laboratory) -> Measured:
    require_serve()
    recipes: dict[str, list[Step]] = {
        "uncompressed": [],
        "compressed": [{"prune": {"ratio": 0.3}}, *laboratory.recover, integers(laboratory, 8)],
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for label, plain in recipes.items():
            laboratory.artifact(plain, Path(folder) / label)
        catalogue = Catalogue.load([f"{label}={Path(folder) / label}" for label in recipes])
        # Text models have texts of their own to send.
        settings = ServingSettings(port=_PORT, replicas=os.cpu_count() or 1, threads=1)
        found = compare(catalogue, settings, seconds=_SECONDS, concurrency=_CONCURRENCY)
    names = ("requests_per_s", "p50_ms", "p99_ms", "replica_bytes", "model_bytes")
    for row, one in zip(laboratory.rows(recipes, timed=False), found, strict=True):
        refused = sum(count for status, count in one.statuses.items() if status != 200)
        note = f"{refused} requests were refused" if refused else ""
        rows.append(Row(row.label, {**row.values, **{name: float(getattr(one, name)) for name in names}}, note))
    whole, small = (row.values for row in rows)
    faster, later, memory = ((small[name] or 0) / (whole[name] or 1) for name in ("requests_per_s", "p99_ms", "model_bytes"))
    told = (
        f"Compressed: {faster:.2f} times the requests a second, {later:.2f} of the p99, {memory:.2f} of the model's memory in a replica "
        f"({format_bytes(small['model_bytes'] or 0)} after {format_bytes(whole['model_bytes'] or 0)}), "
        f"{lost(rows[1], rows[0], laboratory.quality.direction):+.3g} {laboratory.quality.name} lost."
    )
    return Measured(rows, [told], {})


COMPARISON = Comparison(
    "serving",
    "Uncompressed against compressed serving",
    f"What does compression save behind HTTP? Both artifacts are served alike by `compareto serve` and loaded by turns, {_SECONDS:g} seconds each with "
    f"{_CONCURRENCY} requests at a time; each has as many replicas of one thread as there are cores. The compressed one has 30 % of its units pruned, recovers "
    "by distillation, and computes in 8 bits.",
    ("minilm", "digits"),
    (
        QUALITY,
        BYTES,
        Column("requests_per_s", "requests/s", ".1f"),
        Column("p50_ms", "p50, ms", ".3g"),
        Column("p99_ms", "p99, ms", ".3g"),
        Column("replica_bytes", "a replica's memory, bytes", ",.0f"),
        Column("model_bytes", "of it the model, bytes", ",.0f"),
    ),
    Curve("requests_per_s", "p99_ms"),
    _run,
)
