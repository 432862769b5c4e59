"""Is pruning in rounds better than pruning at once? ResNet-20 on CIFAR-10, the same widths and the same number of training steps in all.

python experiments/benchmarks/schedules.py [--steps 240] [--seeds 3] [--remove 0.5 0.7] [--rounds 4] [--decay 1.0]
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from recoveries import ROOT, Baseline, Runs, accuracies, conditions, markdown, paired, points, recovery  # found beside this file

from compressors.pruning import PruneIteratively
from search.quiet import quiet_libraries

RESULTS = ROOT / "build/benchmarks/schedules.jsonl"
ONE_SHOT = "one-shot"
PACES = ("equal", "geometric", "cubic")


def run(baseline: Baseline, runs: Runs, *, removed: float, schedule: str, rounds: int, decay: float, steps: int, seed: int) -> dict[str, Any]:
    """One row: from the file, or computed now."""
    case: dict[str, Any] = {"removed": removed, "schedule": schedule, "steps": steps, "seed": seed, "baseline": baseline.key}
    if schedule != ONE_SHOT:
        case |= {"rounds": rounds, "decay": decay}
    found = runs.get(**case)
    if found is not None:
        return found
    started = time.perf_counter()
    ratio, edit = baseline.plan(("channels",), removed)
    step = PruneIteratively(criterion="l2", ratio={"channels": ratio}, recover=recovery(steps), rounds=1)
    if schedule != ONE_SHOT:
        step = dataclasses.replace(step, rounds=rounds, pace=schedule, decay=decay)  # type: ignore[arg-type]
    row = baseline.measured(step.apply(baseline.model, edit, baseline.context(seed))) | {"seconds": time.perf_counter() - started}
    print(f"{case}: {row['report_accuracy']:.3f}, {row['seconds']:.0f} s", file=sys.stderr, flush=True)
    return runs.add(row, **case)


def table(baseline: Baseline, found: dict[tuple[float, str], list[dict[str, Any]]]) -> list[str]:
    lines = []
    for (removed, schedule), rows in found.items():
        difference = "-" if schedule == ONE_SHOT else points(paired(baseline.correct(rows), baseline.correct(found[removed, ONE_SHOT])))
        seconds = f"{np.mean([row['seconds'] for row in rows]):.0f} s"
        lines.append([f"{removed:.0%}", schedule, f"{rows[0]['macs']:,}", f"{rows[0]['parameters']:,}", accuracies(rows), difference, seconds])
    heads = ("MACs removed", "schedule", "MACs", "parameters", "accuracy: mean (seeds)", "against one-shot, points, 95 %", "a run")
    return list(markdown(heads, lines))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--remove", nargs="+", type=float, default=[0.5, 0.7], help="shares of the MACs")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--decay", type=float, default=1.0, help="factor on the learning rate from one round to the next")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=240, help="of all rounds together")
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished runs; those that are there are not run again")
    args = parser.parse_args(arguments)
    quiet_libraries()
    baseline, runs = Baseline.load(), Runs(args.results)
    settings = {"rounds": args.rounds, "decay": args.decay, "steps": args.steps}
    found = {
        (removed, schedule): [run(baseline, runs, removed=removed, schedule=schedule, seed=seed, **settings) for seed in range(args.seeds)]
        for removed in args.remove
        for schedule in (ONE_SHOT, *PACES)
    }
    print(f"{conditions(args.steps, args.seeds)}; {args.rounds} rounds, decay {args.decay}\n")
    print("\n".join(table(baseline, found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
