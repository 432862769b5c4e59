"""``compareto front``: the Pareto front of a study, or one point of it."""

from __future__ import annotations

import argparse
import json

from compressors.errors import UserError
from search.commands.arguments import Subparsers, add_command

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "front", run, "show the Pareto front of a study", "compareto front quickstart --by accuracy,size_bytes --where 'accuracy >= baseline - 1%'"
    )
    parser.add_argument("study", metavar="STUDY", help="a study's name or folder")
    parser.add_argument("--device", metavar="D", help="the front on this device; one that was not in the study is priced now")
    parser.add_argument("--by", metavar="M,M", help="metrics to trade, instead of the experiment's objectives")
    parser.add_argument("--where", metavar="EXPR", help="only points that keep this, such as 'latency_ms@raspberry-pi-5 <= 10 and size_bytes <= 1MB'")
    parser.add_argument("--pick", metavar="EXPR", help="one point: knee, 'min METRIC' or 'max METRIC', each with 'where ...'")
    parser.add_argument("--law", action="store_true", help="also latency and accuracy as functions of the number of parameters, fitted to the study's trials")
    parser.add_argument("--target", metavar="METRIC=VALUE", help="with --law: the size at which it would be reached, such as accuracy=0.95")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="csv and json are stable (docs/formats.md)")


def run(args: argparse.Namespace) -> int:
    """Read the records, print the front."""
    from search.front_formats import front_csv, front_json
    from search.results import Results

    if args.target is not None and not args.law:
        raise UserError("--target: accepted with --law")
    if args.law and args.format == "csv":
        raise UserError("--law: a law is no row of a table; accepted: --format table or json")
    results = Results.load(args.study)
    if args.device:
        results = results.on(args.device)
    metrics = [name.strip() for name in args.by.split(",") if name.strip()] if args.by else []
    if args.device and metrics:
        metrics = [f"{name}@{args.device}" if results.needs_device(name) else name for name in metrics]
    frame = results.front(*metrics, where=args.where, baselines=args.pick is None, everything=args.format != "table")
    picked = None
    if args.pick is not None:
        picked = results.pick(args.pick, *metrics, where=args.where)
        attributes = frame.attrs
        frame = frame[frame["id"] == picked]
        frame.attrs = attributes
    laws = []
    if args.law:
        from search.laws import law_lines, laws_of, laws_plain

        laws = laws_of(results, args.target)
    if args.format == "json":
        document = front_json(results, frame, picked)
        print(json.dumps({**json.loads(document), "laws": laws_plain(laws)}, indent=1) if args.law else document)
    elif args.format == "csv":
        print(front_csv(frame), end="")
    else:
        _show(results, frame, picked)
        if laws:
            print("\n" + "\n".join(law_lines(laws)))
    return 0


def _show(results: object, frame: object, picked: str | None) -> None:
    from rich.console import Console

    from search.front_table import explain, front_lines

    console = Console(highlight=False)
    for row in front_lines(results, frame, console.width):  # type: ignore[arg-type]
        console.print(row, soft_wrap=True)
    console.print()
    for line in explain(results, frame, picked):  # type: ignore[arg-type]
        console.print(line, markup=False)
