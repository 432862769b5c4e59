"""``compareto devices fit``: device models from measured networks."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from compressors.errors import UserError

__all__ = ["add_measurements", "register", "run"]


def register(actions: Any) -> None:
    """Add the action to those of ``compareto devices``."""
    parser = actions.add_parser(
        "fit",
        help="fit device models to measured latencies of whole networks",
        description="Fit the devices of a CSV of latencies together, and write what was found into their profiles.",
        epilog="example:\n  compareto devices fit --measurements ncnn_bench.csv --layers ncnn_layers.json --out fitted",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_measurements(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write copies of the profiles there; without it the profiles themselves are changed")
    parser.add_argument("--source", metavar="TEXT", help="where the measurements come from, kept in the profiles (default: the file's name)")
    parser.set_defaults(run=run)


def add_measurements(parser: argparse.ArgumentParser) -> None:
    """``--measurements`` and ``--layers``."""
    parser.add_argument(
        "--measurements",
        type=Path,
        required=True,
        metavar="CSV",
        help="columns device, num_threads, model, min_ms; also read: avg_ms, powersave, gpu_device, loop_count, cooling_down; or AI Hub's performance table",
    )
    parser.add_argument("--layers", type=Path, required=True, metavar="JSON", help="the layers of every network: op, class, shapes, macs, weights")


def run(args: argparse.Namespace) -> int:
    """Fit, write, and say what is left over."""
    from evaluators.devices.fitting.fit_devices import fit_devices
    from evaluators.devices.fitting.layers import read_layers
    from evaluators.devices.fitting.measurements import read_measurements

    if args.out is not None and args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out}: is a file; expected a folder")
    layers = read_layers(args.layers)
    measured = read_measurements(args.measurements, layers)
    print(f"{measured.disturbed} rows are left out: something else ran at the same time, or the clock was low", file=sys.stderr)
    fitted = fit_devices(measured, layers, args.source or args.measurements.name, progress=lambda line: print(line, file=sys.stderr))
    written, left = fitted.write(args.out)
    for device, runtimes in sorted(fitted.devices.items()):
        for key, entry in runtimes.items():
            errors = ", ".join(f"{precision} {error:.1%}" for precision, error in entry.error.items())
            print(f"{key:<9} {entry.rows:>4} rows, networks held out: {errors:<24} {device}")
    print(f"{len(written)} files written to {args.out or written[-1].parent}")
    for device in left:
        print(f"no profile lists {device!r} among its names; nothing is written for it", file=sys.stderr)
    return 0
