"""Run a comparison and write its page: ``python -m experiments.comparisons NAME [--subject SUBJECT] [--out docs/results]``; without a name, all are listed."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from experiments.comparisons.comparison import RESULTS, Comparison
from experiments.comparisons.overview import write_overview
from search.quiet import quiet_libraries

NAMES = (
    "pruning_ratio",
    "pruning_and_quantization",
    "dynamic_and_static",
    "generation_bits",
    "distillation_grid",
    "low_rank_ranks",
    "replacement",
    "weight_sharing",
    "all_devices",
    "power_modes",
    "sizes",
    "input_size",
    "serving",
)


def comparison(name: str) -> Comparison:
    """By name."""
    found: Comparison = importlib.import_module(f"experiments.comparisons.{name}").COMPARISON
    return found


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m experiments.comparisons", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES)
    parser.add_argument("--subject", help="the model; default: the comparison's first")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="only write the page again, from the figures that are kept")
    chosen = parser.parse_args(arguments)
    if chosen.name is None:
        for name in NAMES:
            found = comparison(name)
            print(f"{name}: {found.title} ({', '.join(found.subjects)})")
        return 0
    found = comparison(chosen.name)
    subject = chosen.subject or found.subjects[0]
    if subject not in found.subjects:
        parser.error(f"--subject {subject!r} is not accepted; accepted: {', '.join(found.subjects)}")
    quiet_libraries()
    print(found.page(chosen.out) if chosen.page else found.measure(subject, chosen.out))
    print(write_overview([comparison(name) for name in NAMES], chosen.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
