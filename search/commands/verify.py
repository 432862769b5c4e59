"""``compareto verify``: does an artifact keep what it promises?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from search.commands.arguments import Subparsers, add_command

if TYPE_CHECKING:
    from search.verify import Check, Report

__all__ = ["register", "run"]

_UNCOMPRESSED = " (uncompressed)"


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "verify", run, "measure an artifact again and compare with what it promises", "compareto verify artifact --format json")
    parser.add_argument("folder", metavar="DIR", type=Path, help="an artifact that compareto export wrote")
    parser.add_argument("--threads", type=int, default=2, help="within an operator (default: 2)")
    parser.add_argument("--provider", default="cpu", help="ONNX Runtime's execution provider, such as cuda or coreml (default: cpu)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json is stable (docs/formats.md)")


def run(args: argparse.Namespace) -> int:
    """Print promised beside found, then the verdict; 0 for kept and no speed-up, 1 otherwise."""
    import dataclasses
    import json
    import sys

    from search.verify import verify

    report = verify(args.folder, threads=args.threads, provider=args.provider, log=lambda line: print(f"checking {line} ...", file=sys.stderr))
    if args.format == "json":
        checks = [dataclasses.asdict(c) for c in report.checks]
        document = {"format_version": 1, "verdict": report.verdict, "reasons": report.reasons, "notes": report.notes, "checks": checks}
        print(json.dumps(document, indent=1, allow_nan=False))
    else:
        _show(report)
    return 0 if report.passed else 1


def _show(report: Report) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if report.checks:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("figure", "promised", "found", "uncompressed", "", "note"):
            number = name in ("promised", "found", "uncompressed")
            table.add_column(name, justify="right" if number else "left", overflow="fold", no_wrap=number or not name)
        before = {check.name.removesuffix(_UNCOMPRESSED): check for check in report.checks if check.name.endswith(_UNCOMPRESSED)}
        for check in report.checks:
            if check.name.endswith(_UNCOMPRESSED):
                continue
            other = before.get(check.name)
            figures = (_figure(check, check.promised), _figure(check, check.found), _figure(other, other.found) if other else "")
            table.add_row(check.name, *figures, {True: "kept", False: "BROKEN", None: ""}[check.kept], check.note)
        console.print(table)
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True)
    console.print(report.verdict + "".join(f"\n  {reason}" for reason in report.reasons), soft_wrap=True)


def _figure(check: Check, value: float | None) -> str:
    from evaluators.metric import EXACT, Metric
    from search.figures import figure

    if value is None:
        return "-"
    if check.name == "latency_ratio":
        return f"{value:.3g}x"
    if check.name.startswith("outputs"):
        return f"{value:.2%}"
    name = check.name.partition(" ")[0]
    if name.endswith("_bytes"):
        return figure(EXACT["size_bytes"], value)
    return figure(Metric(name, "ms" if name.endswith("_ms") else "", "min", "observed"), value)
