"""How long does the known-cost search take for a suggestion after 500 trials?

The synthetic problem of 11 dimensions and noisy quality; the first trials are random points, so that only what is timed is ours. One thread; a suggestion and
what is told of it, fits of hyperparameters included. Exits 1 where the mean exceeds half a second.

python experiments/benchmarks/search/suggestion_time.py [--trials 500] [--suggestions 40]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from threadpoolctl import threadpool_limits

import compareto

sys.path.insert(0, str(Path(__file__).parent))

from synthetic import stated  # found beside this file

LIMIT_S = 0.5


def main() -> int:
    """Tell, then time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--suggestions", type=int, default=40)
    args = parser.parse_args()
    problem = stated()
    drawn, ours = (compareto.optimizer(name, problem.space, problem.costs, problem.constraints, seed=0) for name in ("random", "auto"))
    for candidate in drawn.ask(args.trials):
        ours.tell(candidate, problem.observe(candidate, 0), problem.noise)
    seconds = []
    with threadpool_limits(1):
        for _ in range(args.suggestions):
            started = time.perf_counter()
            (candidate,) = ours.ask(1)
            ours.tell(candidate, problem.observe(candidate, 0), problem.noise)
            seconds.append(time.perf_counter() - started)
    mean = statistics.mean(seconds)
    print(f"after {args.trials} trials: {mean:.2f} s a suggestion ({min(seconds):.2f} to {max(seconds):.2f}, {args.suggestions} of them, one thread)")
    return int(mean > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
