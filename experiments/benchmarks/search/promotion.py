"""What promotion saves: trainings until a search holds 90, 95 and 97 % of a recorded table's hypervolume, every training to its end or stopped after a third.

The tables (``record_resnet20``, ``record_digits``) hold the accuracy after a third of each training beside that at its end, so that the same decisions that a
study takes (``search.promotion``) are replayed over many seeds. Ours and random search, each with and without.

python experiments/benchmarks/search/promotion.py [--table digits] [--seeds 10]

The table of ResNet-20 is recorded first: python experiments/benchmarks/search/record_resnet20.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import record_digits  # found beside this file
import record_resnet20
from comparison import SHARES, compare, median
from recorded import Table

TABLES = {"digits": record_digits.RECORDING, "resnet20": record_resnet20.RECORDING}
PAIRS = {"auto": "promotion", "random": "random promotion"}
LIMIT = 2.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the ratios; 0 where promotion halves what ours or random search takes to some share, in the median."""
    rest = list(arguments if arguments is not None else sys.argv[1:])
    name = "digits"
    if "--table" in rest:
        at = rest.index("--table")
        name = rest[at + 1]
        del rest[at : at + 2]
    table = Table(TABLES[name])
    budgets = {algorithm: 120 for pair in PAIRS.items() for algorithm in pair}
    rows = compare(table.problem(budgets), rest, __doc__, [algorithm for pair in PAIRS.items() for algorithm in pair])
    best = 0.0
    for without, with_ in PAIRS.items():
        ratios = [median(rows, without, share, "cost") / median(rows, with_, share, "cost") for share in SHARES]
        print(f"{with_}: " + ", ".join(f"{ratio:.2f}x less to {share:.0%}" for ratio, share in zip(ratios, SHARES, strict=True)))
        best = max(best, *(ratio for ratio in ratios if ratio == ratio and ratio != float("inf")), 0.0)
    return 0 if best >= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
