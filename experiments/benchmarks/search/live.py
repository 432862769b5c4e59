"""One live search: the quickstart's trials really trained, ours beside random points and NSGA-II at the same number of trials, over one cache.

What counts is the hypervolume of the published front on ``report``, which no search ranks on, in units of the box of the uniform baselines.

python experiments/benchmarks/search/live.py [--trials 24] [--seeds 7] [--algorithms auto random nsga2]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.experiment import Experiment
from search.study import Study

PEERS = ("random", "nsga2")


def searched(algorithm: str, trials: int, seed: int, folder: Path) -> tuple[float, float, int]:
    """Hypervolume on ``report`` and on ``search``, and how many trials failed."""
    chosen = [f"search.algorithm={algorithm}", f"search.trials={trials}", f"search.seed={seed}", "search.verify=false"]
    results = Study(Experiment.load("quickstart", chosen), name=f"{algorithm}-{seed}", storage=folder).run()
    return results.hypervolume(), results.hypervolume(split="search"), sum(r.status != "ok" for r in results.records)


def main(arguments: Sequence[str] | None = None) -> int:
    """Search and print the table; 0 where ours is ahead of both on ``report``, in the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="+", default=[7])
    parser.add_argument("--algorithms", nargs="+", choices=["auto", *PEERS, "grid", "tpe", "gp"], default=["auto", *PEERS])
    chosen = parser.parse_args(arguments)
    lines = ["| algorithm | trials | seeds | hypervolume on report | on search | trials that failed | seconds |", "|---|---|---|---|---|---|---|"]
    held: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.algorithms:
            started = time.perf_counter()
            rows = [searched(name, chosen.trials, seed, Path(folder)) for seed in chosen.seeds]
            report, search = (float(np.median([row[i] for row in rows])) for i in (0, 1))
            held[name] = report
            failed = sum(row[2] for row in rows)
            lines.append(f"| {name} | {chosen.trials} | {len(rows)} | {report:.4f} | {search:.4f} | {failed} | {time.perf_counter() - started:.0f} |")
    print("\n".join(lines))
    return 1 if any(held["auto"] <= held[name] for name in PEERS if name in held) else 0


if __name__ == "__main__":
    sys.exit(main())
