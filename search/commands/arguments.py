"""Arguments that several commands share, spelled once."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

__all__ = ["Subparsers", "add_command", "add_experiment"]

Subparsers = Any  # argparse's own type is private


def add_command(subparsers: Subparsers, name: str, run: Callable[[argparse.Namespace], int], summary: str, example: str) -> argparse.ArgumentParser:
    """A command with its summary and an example under ``--help``."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_experiment(parser: argparse.ArgumentParser) -> None:
    """``EXPERIMENT`` and ``--set``."""
    parser.add_argument("experiment", metavar="EXPERIMENT", help="a YAML file, or 'quickstart'")
    add_set(parser)


def add_set(parser: argparse.ArgumentParser) -> None:
    """``--set key=value``, repeatable."""
    parser.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="override a value, such as search.trials=4; repeatable"
    )
