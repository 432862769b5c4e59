"""A language model in floats and in integers: quality, bytes, memory, and what a token costs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from compressors.recipe import Recipe
from experiments.comparisons.columns import BYTES, QUALITY, change, lost
from experiments.comparisons.comparison import Column, Comparison, Curve, Measured
from experiments.comparisons.laboratory import Laboratory, Row, Step

__all__ = ["COMPARISON"]

_ROUNDS = 3
_TOLD = """
import json, sys
import numpy as np
from compressors.targets.onnx_generation import Generator
from search.bench import peak_memory_bytes
before = peak_memory_bytes()
generator = Generator(__import__("pathlib").Path(sys.argv[1]), 1)
tokens = np.arange(64)[None] % 500 + 3
runs = [generator.generate({"input_ids": tokens}, 64).statistics() for _ in range(4)][1:]
print(json.dumps({"first": sorted(r["first_token_ms"] for r in runs)[1], "token": sorted(r["token_ms"] for r in runs)[1],
                  "memory": peak_memory_bytes() - before}))
"""


def _run(laboratory: Laboratory) -> Measured:
    recipes: dict[str, list[Step]] = {
        "float": [],
        "int8": [{"quantize": {"weight_bits": 8, "activation_bits": 8, "mode": "dynamic"}}],
        "int4, groups of 32": [{"quantize": {"weight_bits": 4, "granularity": 32, "activation_bits": 8, "mode": "dynamic"}}],
    }
    rows = laboratory.rows(recipes, timed=False)
    with tempfile.TemporaryDirectory() as folder:
        files: dict[str, Path] = {}
        for label, plain in recipes.items():
            place = Path(folder) / str(len(files))
            place.mkdir()
            prepared = laboratory.prepared
            files[label] = prepared.target.export(laboratory.runner.model(Recipe.from_plain(plain)), prepared.task.example_inputs, place)
        runs = [{label: _told(path) for label, path in files.items()} for _ in range(_ROUNDS)]
    timed = []
    for row in rows:
        own = sorted((run[row.label] for run in runs), key=lambda one: one["token"])[_ROUNDS // 2]
        more = {"first_token_ms": own["first"], "token_ms": own["token"], "memory_bytes": own["memory"]}
        timed.append(Row(row.label, {**row.values, **more}, row.note))
    found = [
        f"{row.label}: {change(row, 'size_bytes', timed[0]):.2f} of the bytes, {change(row, 'token_ms', timed[0]):.2f} of the time a token, "
        f"{lost(row, timed[0], laboratory.quality.direction):+.3g} {laboratory.quality.name} lost."
        for row in timed[1:]
    ]
    if all(change(row, "token_ms", timed[0]) > 1 for row in timed[1:]):
        found.append("Integers save this model bytes, not time: a token costs the launches of its kernels.")
    return Measured(timed, found, {})


def _told(path: Path) -> dict[str, float]:
    """In a process of its own, so that memory is the model's."""
    run = subprocess.run([sys.executable, "-c", _TOLD, str(path)], capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return told


COMPARISON = Comparison(
    "generation_bits",
    "Generation in floats, int8 and int4",
    "What do integers do to a language model that tells stories? 64 tokens are told after a prompt of 64, in ONNX Runtime with one thread; memory is what the "
    "process grows by while it loads the model and tells.",
    ("stories",),
    (
        QUALITY,
        BYTES,
        Column("memory_bytes", "peak memory, bytes", ",.0f"),
        Column("first_token_ms", "first token, ms", ".3g"),
        Column("token_ms", "a token, ms", ".3g"),
    ),
    Curve("token_ms", "quality"),
    _run,
)
