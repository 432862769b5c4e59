"""How many evaluations, and trainings, until a search holds 90, 95 and 97 % of the front of a table of real trainings? See ``record_digits`` for the table.

A search sees accuracy on ``search`` as it was recorded once; size and latency are known to it, as binary logarithms. What counts is the hypervolume up to the
uncompressed network's costs and ten points below its accuracy, which all are told as a constraint. A recipe whose training was done before costs a tenth of a
training.

python experiments/benchmarks/search/recorded.py [--algorithms auto stages promotion modelled random nsga2 tpe gp] [--seeds 10]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))

from comparison import SHARES, Problem, compare, median  # found beside this file
from record_digits import RECORDING
from recording import Recording

from search.algorithms.algorithm import point_key
from search.pareto import hypervolume, non_dominated

__all__ = ["Table"]

BUDGETS = {"auto": 200, "stages": 400, "promotion": 120, "modelled": 200, "random": 800, "nsga2": 500, "tpe": 250, "gp": 100}
LOST = 0.1
"""Accuracy below the uncompressed network's at which a recipe is of no use any more."""
PEERS = ("random", "nsga2", "tpe", "gp")


class Table:
    """The recorded recipes by their point."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        frame = pd.read_parquet(recording.table)
        about = json.loads(recording.table.with_suffix(".json").read_text())["uncompressed"]
        self._rows = {point_key({name: row[name] for name in recording.space}): row for row in frame.to_dict("records")}
        self._reference = np.array([np.log2(about["size_bytes"]), np.log2(about["latency_ms"]), -(about["accuracy_search"] - LOST)])
        points = self._points(list(self._rows.values()))
        self.front = points[non_dominated(points)]
        self._total = hypervolume(self.front, self._reference)

    def problem(self, budgets: dict[str, int]) -> Problem:
        """A search for its front.

        Args:
            budgets: evaluations of each algorithm.
        """
        return Problem(
            f"recorded_{self._recording.name}",
            self._recording.space,
            self._costs,
            lambda candidate, _: float(self._row(candidate)["accuracy_search"]),
            None,
            self._share,
            self._recording.trained,
            self._oracle(),
            budgets,
            self._recording.part,
            lambda candidate: float(self._row(candidate)["accuracy_search_part"]),
            (f"quality >= {-self._reference[2]:.6g}",),
        )

    def _row(self, candidate: dict[str, Any]) -> dict[str, Any]:
        return self._rows[point_key(candidate)]

    def _costs(self, candidates: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
        """Binary logarithms of bytes and milliseconds."""
        rows = [self._row(c) for c in candidates]
        return {name: np.log2([r[name] for r in rows]) for name in ("size_bytes", "latency_ms")}

    def _share(self, candidates: Sequence[dict[str, Any]]) -> float:
        """Of the hypervolume of the whole table."""
        return hypervolume(self._points([self._row(c) for c in candidates]), self._reference) / self._total if candidates else 0.0

    def _oracle(self) -> list[int | None]:
        """Evaluations that a greedy oracle needs for each of ``SHARES``."""
        taken: list[int] = []
        shares = []
        while len(taken) < len(self.front):
            gains = [-1.0 if i in taken else hypervolume(self.front[[*taken, i]], self._reference) for i in range(len(self.front))]
            taken.append(int(np.argmax(gains)))
            shares.append(max(gains) / self._total)
        return [next((n + 1 for n, held in enumerate(shares) if held >= share), None) for share in SHARES]

    def _points(self, rows: Sequence[dict[str, Any]]) -> np.ndarray:
        return np.array([[np.log2(r["size_bytes"]), np.log2(r["latency_ms"]), -r["accuracy_search"]] for r in rows])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 where ours takes at most a third of NSGA-II's evaluations to 95 % and fewer than every peer's, in the median."""
    table = Table(RECORDING)
    print(f"{len(table.front)} recipes on the front", file=sys.stderr)
    rows = compare(table.problem(BUDGETS), arguments, __doc__, ["auto", "stages", "promotion", "modelled", *PEERS])
    ours, peers = median(rows, "auto"), [median(rows, name) for name in PEERS]
    return 1 if any(ours >= other for other in peers) or ours > median(rows, "nsga2") / 3 else 0


if __name__ == "__main__":
    sys.exit(main())
