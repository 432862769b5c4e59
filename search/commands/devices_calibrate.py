"""``compareto devices calibrate``: measure this machine, or improve the profile of another device by measurements made there."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressors.errors import UserError, near_miss
from compressors.graph.exits import STAGE
from evaluators.devices.names import THIS_HOST, parse_device, units_of

if TYPE_CHECKING:
    from evaluators.devices.calibration.anchors import Anchor
    from evaluators.devices.calibration.calibrate import Calibration

__all__ = ["anchor_lines", "register", "run", "summary"]


def register(actions: Any) -> None:
    """Add the action to those of ``compareto devices``."""
    parser = actions.add_parser(
        "calibrate",
        help="measure this machine, or improve another device's profile by measurements made there",
        description="Measure this machine: kernels, then whole networks, some minutes; an interrupted calibration goes on. With --anchor: keep latencies (and "
        "powers) of variants of a model, measured elsewhere; variants of that model are then priced by them.",
        epilog="example:\n  compareto devices calibrate --runtime litert --threads 2\n  compareto devices calibrate pixel-7/litert:2t --anchor knee=bench.json "
        "--anchor small=12.3ms,2.5W",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("device", metavar="DEVICE", nargs="?", default=THIS_HOST, help="DEVICE[.UNIT]/RUNTIME[:THREADSt][:MODE] (default: this-host)")
    parser.add_argument("--runtime", metavar="NAME", help="of this machine's calibration: onnxruntime (default), litert or executorch")
    parser.add_argument("--threads", type=_threads, default=None, metavar="N", help="threads of a session (default: 1, as this-host without :Nt)")
    parser.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar="MODEL=MS[,W]",
        help="a measurement made on DEVICE: ARTIFACT=12.3ms, ARTIFACT=12.3ms,2.5W, ARTIFACT=bench.json (what its bench.py printed), or EXPERIMENT.yaml=12.3 of "
        "the uncompressed model; repeatable",
    )
    parser.add_argument("--forget", action="store_true", help="drop the anchors that DEVICE has")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure, or keep or drop anchors."""
    here = args.device.partition("/")[0].partition(":")[0] == THIS_HOST
    if not here:
        return _anchors(args)
    if args.anchor or args.forget:
        raise UserError(
            f"{THIS_HOST} has no anchors: it is measured itself; accepted with --anchor and --forget: a device with a profile, such as pixel-7/litert"
        )
    return _measure(args)


def _anchors(args: argparse.Namespace) -> int:
    from evaluators.devices.calibration.anchors import add_anchors, anchors_path, forget_anchors, written_key
    from search.anchoring import read_anchor

    if args.runtime or args.threads:
        raise UserError("--runtime and --threads are for this machine; a device says both itself, such as pixel-7/litert:2t")
    key = parse_device(args.device)
    if key.unit not in units_of(key.device):
        raise UserError(f"anchors are of one unit, {key} names several; accepted: {', '.join(units_of(key.device))}")
    if not args.anchor and not args.forget:
        raise UserError(f"{key} is not this machine; give --anchor with measurements made there, or --forget")
    new = tuple(read_anchor(text, key) for text in args.anchor)
    if args.forget:
        print(f"{key}: its anchors are forgotten" if forget_anchors(key) else f"{key} has no anchors")
    if new:
        print("\n".join([*anchor_lines({written_key(key): add_anchors(key, new)}), f"kept in {anchors_path(key)}"]))
    return 0


def anchor_lines(kept: Mapping[str, Sequence[Anchor]]) -> list[str]:
    """Anchors by device, a line each."""
    lines = []
    for key, anchors in kept.items():
        for anchor in anchors:
            watts = f", {anchor.watts:g} W" if anchor.watts else ""
            lines.append(f"anchor of {key}: {anchor.model}: {anchor.latency_ms:g} ms{watts} (from {anchor.source}; graph {anchor.graph})")
    return lines


def _measure(args: argparse.Namespace) -> int:
    from evaluators.devices.this_host import calibrate_this_host, read_calibration

    known = units_of(THIS_HOST)["cpu"]
    if args.runtime is not None and args.runtime not in known:
        raise UserError(f"--runtime: {THIS_HOST} has no runtime {args.runtime!r}; accepted: {', '.join(known)}{near_miss(args.runtime, known)}")
    key = parse_device(args.device, args.runtime)
    for option, written, named in (("--runtime", args.runtime, key.runtime), ("--threads", args.threads, key.threads or args.threads)):
        if written is not None and written != named:
            raise UserError(f"{option} {written}: {args.device} says {named}; give it once")
    path = calibrate_this_host(lambda line: print(line, file=sys.stderr), args.threads or key.threads, key.runtime)
    found = read_calibration(path)
    assert found is not None, "it was just written"
    print("\n".join([*summary(found), f"kept in {path}"]))
    return 0


def summary(found: Calibration) -> list[str]:
    """What a calibration found, a line each."""
    lines = [f"{key}: {value}" for key, value in found.machine.items()]
    held_out = f"of {found.networks} models of networks that were left out of the fit in turn" if found.networks else "of single kernels"
    lines.append(
        f"residual {found.residual:.1%} {held_out}; 90 % within a factor of {math.exp(found.half_width):.2f}; spread between rounds {found.spread:.1%}"
    )
    for precision, table in found.rates.compute.items():
        speeds = {op_class: rate.gmacs / found.rates.corrected(op_class, precision) for op_class, rate in table.items()}
        lines.append(f"{precision:<12} " + ", ".join(f"{op_class} {speed:.0f}" for op_class, speed in speeds.items()) + " GMAC/s at most")
    more = f", a stage of a model with exits {found.rates.launch(STAGE):.0f} us" if STAGE in found.rates.launch_us else ""
    lines.append(f"weights stream at {found.rates.weight_gb_s:.0f} GB/s; one inference costs {found.rates.overhead_ms * 1e3:.0f} us beside its kernels{more}")
    return lines


def _threads(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number of threads, got {text!r}")
    return int(text)
