"""``compareto devices validate``: how good device models are on measurements they have not seen."""

from __future__ import annotations

import argparse
import json
from typing import Any

from search.commands.devices_fit import add_measurements

__all__ = ["register", "run"]


def register(actions: Any) -> None:
    """Add the action to those of ``compareto devices``."""
    parser = actions.add_parser(
        "validate",
        help="score device models on measured latencies that they have not seen",
        description="Predict measured latencies without using them, beside what multiply-accumulates or parameters alone predict.",
        epilog="example:\n  compareto devices validate --measurements ncnn_bench.csv --layers ncnn_layers.json --hold-out devices --anchors 1",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measurements(parser)
    parser.add_argument(
        "--hold-out",
        default="networks",
        metavar="WHAT",
        help="networks (default; each with its int8 twin), devices, or none: the shipped profiles as they are, found by the device's name",
    )
    parser.add_argument(
        "--anchors", type=_count, default=0, metavar="K", help="rows of every device and thread count that are known and not scored (default: 0)"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="table (default) or json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the figures of every unit, thread count and precision; errors are fractions in JSON, percent in the table."""
    from evaluators.devices.fitting.layers import read_layers
    from evaluators.devices.fitting.measurements import read_measurements
    from evaluators.devices.fitting.validate import validate

    layers = read_layers(args.layers)
    measured = read_measurements(args.measurements, layers)
    results = validate(measured, layers, args.hold_out, args.anchors)
    groups = [group for result in results for group in result.groups()]
    unmatched = list(dict.fromkeys(name for result in results for name in result.unmatched))
    if args.format == "json":
        found = {"hold_out": args.hold_out, "anchors": args.anchors, "disturbed": measured.disturbed, "groups": groups, "unmatched": unmatched}
        print(json.dumps(found, indent=2))
        return 0
    print(f"held out: {args.hold_out}; {args.anchors} anchors; {measured.disturbed} disturbed rows left out")
    print(f"{'':<14}{'rows':>6}{'MAPE':>8}{'median':>8}{'<=5 %':>7}{'<=10 %':>7}{'<=20 %':>7}{'tau':>7}{'90 %':>7}   MAPE by MACs, by parameters")
    for g in groups:
        name = f"{g['class']} {g['threads']:>2} {g['precision']}"
        baselines = ", ".join(f"{g['baselines'][key]['mape']:.1%}" for key in ("macs", "parameters"))
        within = "".join(f"{g[f'within_{n}']:>7.0%}" for n in (5, 10, 20))
        print(f"{name:<14}{g['rows']:>6}{g['mape']:>8.1%}{g['median_ape']:>8.1%}{within}{g['kendall_tau']:>7.2f}{g['coverage_90']:>7.0%}   {baselines}")
    for name in unmatched:
        print(f"no profile lists {name!r}")
    return 0


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"expected a number of rows, 0 or more, got {text!r}")
    return int(text)
