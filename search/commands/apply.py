"""``compareto apply``: one recipe, no search."""

from __future__ import annotations

import argparse
from pathlib import Path

from search.commands.arguments import Subparsers, add_command, add_set

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "apply", run, "apply one recipe to an experiment's model, without a search", "compareto apply recipe.yaml --to quickstart --out smaller"
    )
    parser.add_argument("recipe", metavar="RECIPE", type=Path, help="a recipe file; a recipe.lock beside it is honoured")
    parser.add_argument("--to", required=True, metavar="EXPERIMENT", help="whose model and data: a YAML file, or 'quickstart'")
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="a new folder for checkpoint, recipe.yaml, recipe.lock and metrics.json")
    add_set(parser)


def run(args: argparse.Namespace) -> int:
    """Apply, then print each figure beside the uncompressed model's."""
    from search.applying import apply_recipe
    from search.figures import figure, interval

    applied = apply_recipe(args.recipe, args.to, args.out, args.overrides, print)
    for line in applied.drift:
        print(f"note: not as in recipe.lock: {line}")
    width = max(map(len, applied.compressed))
    for name, value in applied.compressed.items():
        metric = applied.metrics[name]
        between = interval(metric, value.value, value.low, value.high)
        known = f"  ({between}, {value.tier})" if between else ""
        print(f"{name:{width}}  {figure(metric, applied.baseline[name].value):>10} -> {figure(metric, value.value):<10}{known}")
    print(f"written to {args.out}")
    return 0
