"""``compareto devices``: which devices there are, what is known of one, how their models are fitted and validated, and the calibration of this one."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from evaluators.devices.names import THIS_HOST, device_names, parse_device, units_of
from search.commands import devices_fit, devices_validate
from search.commands.arguments import Subparsers, add_command

__all__ = ["register", "run"]


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers,
        "devices",
        run,
        "list the devices, show one with its sources, fit and validate their models, calibrate this host",
        "compareto devices show raspberry-pi-5",
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="every device, its units and runtimes")
    show = actions.add_parser("show", help="the figures of one device with their sources")
    show.add_argument("device", metavar="DEVICE", help="a device's name, DEVICE[.UNIT]/RUNTIME, or the file of a profile, which is checked")
    for reader in (listing, show):
        reader.add_argument("--format", choices=("table", "json"), default="table", help="table (default) or json")
    calibrate = actions.add_parser("calibrate", help="measure this machine: kernels, then whole networks, some minutes; an interrupted calibration goes on")
    calibrate.add_argument("--threads", type=_threads, default=None, metavar="N", help="threads of a session (default: 1, as this-host without :Nt)")
    for action in (listing, show, calibrate):
        action.set_defaults(run=run)
    devices_fit.register(actions)
    devices_validate.register(actions)


def run(args: argparse.Namespace) -> int:
    """Dispatch on the action."""
    if args.action == "list":
        return _list(args.format)
    if args.action == "show":
        return _show(args.device, args.format)
    return _calibrate(args.threads)


def _list(form: str) -> int:
    rows = [_row(name) for name in device_names()]
    if form == "json":
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(row["device"]) for row in rows)
    for row in rows:
        units = "; ".join(f"{unit}: {_with_tiers(runtimes, row['tiers'][unit])}" for unit, runtimes in row["units"].items())
        print(f"{row['device']:<{width}}  {row['description']}")
        print(f"{'':<{width}}  {units}")
    return 0


def _with_tiers(runtimes: list[str], tiers: list[str]) -> str:
    """``ncnn (public-calibrated), onnxruntime, litert (transferred)``."""
    parts = [name if tiers[i + 1 : i + 2] == [tiers[i]] else f"{name} ({tiers[i]})" for i, name in enumerate(runtimes)]
    return ", ".join(parts)


def _row(name: str) -> dict[str, Any]:
    from evaluators.devices.profile import load_profile

    units = {unit: list(runtimes) for unit, runtimes in units_of(name).items()}
    if name == THIS_HOST:
        tiers = {unit: ["host-calibrated"] * len(runtimes) for unit, runtimes in units.items()}
        return {"device": name, "description": "The machine at hand, calibrated", "memory_bytes": None, "units": units, "tiers": tiers}
    profile = load_profile(name)
    tiers = {unit: [profile.tier(unit, runtime) for runtime in runtimes] for unit, runtimes in units.items()}
    return {"device": name, "description": profile.description, "memory_bytes": int(profile.memory_bytes.value), "units": units, "tiers": tiers}


def _show(text: str, form: str) -> int:
    from evaluators.devices.document import device_lines
    from evaluators.devices.profile import load_profile

    name = text if text in device_names() or text.endswith((".yaml", ".yml", ".json")) else parse_device(text).device
    if name == THIS_HOST:
        return _show_this_host(form)
    if form == "json":
        print(load_profile(name).model_dump_json(indent=2))
    else:
        print("\n".join(device_lines(name)))
    return 0


def _show_this_host(form: str) -> int:
    from evaluators.devices.this_host import DEFAULT_THREADS, calibration_path, read_calibration

    path = calibration_path(DEFAULT_THREADS)
    found = read_calibration(path)
    if form == "json":
        print(json.dumps(None if found is None else found.model_dump(), indent=2))
    elif found is None:
        print(f"{THIS_HOST} is not calibrated for these versions; run: compareto devices calibrate")
    else:
        print("\n".join([*_summary(found), f"kept in {path}"]))
    if form != "json":
        print(_power_line())
    return 0


def _power_line() -> str:
    from evaluators.devices.power_meter import power_meter

    meter = power_meter()
    if meter is None:
        return "energy: an estimate from the figures of an x86 core or an Arm board; no power meter (RAPL, NVML) can be read here"
    return f"energy: an estimate from the figures of an x86 core or an Arm board; {meter.name} can be read and has counted {meter.read_j():.0f} J"


def _calibrate(threads: int | None) -> int:
    from evaluators.devices.this_host import calibrate_this_host, read_calibration

    path = calibrate_this_host(lambda line: print(line, file=sys.stderr), threads)
    found = read_calibration(path)
    assert found is not None, "it was just written"
    print("\n".join([*_summary(found), f"kept in {path}"]))
    return 0


def _summary(found: Any) -> list[str]:
    lines = [f"{key}: {value}" for key, value in found.machine.items()]
    held_out = f"of {found.networks} models of networks that were left out of the fit in turn" if found.networks else "of single kernels"
    lines.append(
        f"residual {found.residual:.1%} {held_out}; 90 % within a factor of {math.exp(found.half_width):.2f}; spread between rounds {found.spread:.1%}"
    )
    for precision, table in found.rates.compute.items():
        lines.append(f"{precision:<12} " + ", ".join(f"{op_class} {rate.gmacs:.0f}" for op_class, rate in table.items()) + " GMAC/s")
    lines.append(f"weights stream at {found.rates.weight_gb_s:.0f} GB/s; one inference costs {found.rates.overhead_ms * 1e3:.0f} us beside its kernels")
    return lines


def _threads(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive number of threads, got {text!r}")
    return int(text)
