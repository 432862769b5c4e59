"""A grid of recipes, each really trained and evaluated once: the tables that ``recorded.py`` and ``promotion.py`` replay searches on.

Kept of each recipe: accuracy on ``search`` and ``report``, accuracy on ``search`` after a part of the training, exact size, predicted latency, and the seconds
of its stages. Beside the table stands where it comes from.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["Recording"]

BUILD = Path(__file__).resolve().parents[3] / "build/benchmarks"
PARTIAL = 1 / 3
"""The part of a training after which a recipe is evaluated, too."""


@dataclass(frozen=True)
class Recording:
    """What is recorded.

    Attributes:
        name: of the table, ``recorded_NAME.parquet`` beside this file.
        experiment: file, and what is set otherwise in it.
        overrides: of the experiment.
        space: choices by name; every combination is a recipe.
        trained: the names that a training depends on; the others are late variants of it.
        recipe: the plain recipe of a point.
        latency: canonical name of the predicted latency that is kept.
    """

    name: str
    experiment: str
    overrides: tuple[str, ...]
    space: dict[str, Any]
    trained: tuple[str, ...]
    recipe: Callable[[dict[str, Any]], list[dict[str, Any]]]
    latency: str
    command: str
    part: float = PARTIAL

    @property
    def table(self) -> Path:
        """Where the rows lie."""
        return Path(__file__).with_name(f"recorded_{self.name}.parquet")

    def points(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Every combination of the values of some dimensions."""
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*(self.space[name]["choice"] for name in names))]

    def run(self, arguments: Sequence[str] | None, description: str | None) -> int:
        """Record what is missing; 0 where the table is complete, 3 where time ran out before."""
        parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many; the next run goes on")
        end = time.monotonic() + 60 * parser.parse_args(arguments).minutes
        import torch

        from search.cache import Cache
        from search.experiment import Experiment
        from search.preparing import prepare
        from search.stages import StageRunner

        torch.set_num_threads(1)
        finished = BUILD / f"recorded_{self.name}.jsonl"
        finished.parent.mkdir(parents=True, exist_ok=True)
        prefixes = [json.loads(line) for line in finished.read_text().splitlines()] if finished.exists() else []
        prepared = prepare(Experiment.load(self.experiment, list(self.overrides)), Cache(), lambda line: print(line, file=sys.stderr))
        done = {json.dumps(prefix["prefix"]) for prefix in prefixes}
        for prefix in [p for p in self.points(self.trained) if json.dumps(p) not in done]:
            if time.monotonic() > end:
                return 3
            # Nothing of this is worth keeping in the user's cache.
            with tempfile.TemporaryDirectory() as folder, finished.open("a") as file:
                rows = self._rows(StageRunner(prepared, Cache(Path(folder))), prefix)
                file.write(json.dumps({"prefix": prefix, "rows": rows}) + "\n")
            prefixes.append({"prefix": prefix, "rows": rows})
            print(f"{len(prefixes)} trainings: {prefix} {[row['accuracy_search'] for row in rows]}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            self._write([row for prefix in prefixes for row in prefix["rows"]], StageRunner(prepared, Cache(Path(folder))))
        return 0

    def _rows(self, runner: Any, prefix: dict[str, Any]) -> list[dict[str, Any]]:
        """Of one training: one for each of its late variants."""
        from compressors.recipe import Recipe

        rows = []
        for late in self.points([name for name in self.space if name not in self.trained]):
            row: dict[str, Any] = {**prefix, **late}
            plain = Recipe.from_plain(self.recipe(row))
            for budget, suffix in ((self.part, "_part"), (1.0, "")):
                outcome = runner.run(plain, budget=budget, after=self.part if budget == 1 else 0.0)
                row[f"accuracy_search{suffix}"] = outcome.metrics["accuracy"].value
                for stage in outcome.stages:
                    if not stage.cached and not stage.name.startswith("score"):
                        row[f"seconds_{stage.name}{suffix}"] = stage.seconds
            row["accuracy_report"] = runner.run(plain, split="report").metrics["accuracy"].value
            row |= {"size_bytes": int(outcome.metrics["size_bytes"].value), "latency_ms": outcome.metrics[self.latency].value}
            rows.append(row)
        return rows

    def _write(self, rows: list[dict[str, Any]], runner: Any) -> None:
        """The table, and beside it where it comes from."""
        import pandas as pd

        from compressors.recipe import Recipe

        frame = pd.DataFrame(rows).sort_values(list(self.space), ignore_index=True)
        frame.to_parquet(self.table, compression="zstd")
        outcome = {split: runner.run(Recipe.from_plain([]), split=split).metrics for split in ("search", "report")}
        baseline = {f"accuracy_{split}": metrics["accuracy"].value for split, metrics in outcome.items()}
        about = {
            "command": self.command,
            "recipes": len(frame),
            "experiment": [Path(self.experiment).name, *self.overrides],
            "seed": runner.prepared.experiment.search.seed,
            "part": self.part,
            "uncompressed": {**baseline, "size_bytes": outcome["search"]["size_bytes"].value, "latency_ms": outcome["search"][self.latency].value},
            "space": self.space,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, one thread, busy with other work: its seconds say little",
            "versions": dict(runner.prepared.versions),
        }
        self.table.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")
        print(f"{len(frame)} recipes in {self.table.name}")
