"""How many evaluations until a search holds 90, 95 and 97 % of what a dense reference front holds? On the synthetic problem of ``compression_problem``.

Shares count the quality without noise; the algorithms see it with noise. See ``comparison`` for what is compared.

python experiments/benchmarks/search/synthetic.py [--algorithms auto stages modelled random nsga2 tpe gp] [--seeds 10] [--evaluations auto=200 random=1500 ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import compression_problem as problem  # found beside this file
from comparison import SHARES, Problem, compare, median

from search.pareto import hypervolume

BUDGETS = {"auto": 180, "stages": 300, "modelled": 150, "random": 1500, "nsga2": 1500, "tpe": 150, "gp": 60}
LATE = ("weight_bits", "activation_bits")
ENOUGH = 150


def oracle() -> list[int | None]:
    """Evaluations that a greedy oracle needs, which knows the front."""
    total, points = problem.reference_front()
    volumes = [hypervolume(points[: n + 1], problem.REFERENCE) / total for n in range(len(points))]
    return [next((n + 1 for n, volume in enumerate(volumes) if volume >= share), None) for share in SHARES]


def stated() -> Problem:
    """The problem as searches are compared on it."""
    trained = tuple(name for name in problem.SPACE if name not in LATE)
    return Problem("synthetic", problem.SPACE, problem.costs, problem.observed, problem.NOISE, problem.share, trained, oracle(), BUDGETS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; 0 where ours holds 95 % within 150 evaluations and NSGA-II does not within 1,500, in the median."""
    rows = compare(stated(), arguments, __doc__, ["auto", "random", "nsga2", "tpe", "gp"])
    return 1 if median(rows, "auto") > ENOUGH or median(rows, "nsga2") <= BUDGETS["nsga2"] else 0


if __name__ == "__main__":
    sys.exit(main())
