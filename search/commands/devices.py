"""``compareto devices``: which devices there are, what is known of one, how their models are fitted and validated, and the calibration of this one."""

from __future__ import annotations

import argparse
import json
from typing import Any

from evaluators.devices.names import THIS_HOST, DeviceKey, device_names, parse_device, units_of
from search.commands import devices_calibrate, devices_fit, devices_validate
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
    for action in (listing, show):
        action.set_defaults(run=run)
    devices_calibrate.register(actions)
    devices_fit.register(actions)
    devices_validate.register(actions)


def run(args: argparse.Namespace) -> int:
    """Dispatch on the action."""
    if args.action == "list":
        return _list(args.format)
    return _show(args.device, args.format)


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
    from evaluators.devices.calibration.anchors import kept_anchors
    from evaluators.devices.document import device_lines
    from evaluators.devices.profile import load_profile

    name = text if text in device_names() or text.endswith((".yaml", ".yml", ".json")) else parse_device(text).device
    if name == THIS_HOST:
        return _show_this_host(parse_device(text), form)
    kept = kept_anchors(name) if name in device_names() else {}
    if form == "json":
        plain = [{"key": key, **anchor.model_dump(mode="json")} for key, anchors in kept.items() for anchor in anchors]
        print(json.dumps({**load_profile(name).model_dump(mode="json"), "anchors": plain}, indent=2))
    else:
        lines = devices_calibrate.anchor_lines(kept)
        print("\n".join([*device_lines(name), *([""] if lines else []), *lines]))
    return 0


def _show_this_host(key: DeviceKey, form: str) -> int:
    from evaluators.devices.this_host import DEFAULT_THREADS, calibration_path, read_calibration

    path = calibration_path(key.threads or DEFAULT_THREADS, key.runtime)
    found = read_calibration(path)
    if form == "json":
        print(json.dumps(None if found is None else found.model_dump(), indent=2))
    elif found is None:
        print(f"{key} is not calibrated for these versions; run: compareto devices calibrate {key}")
    else:
        print("\n".join([*devices_calibrate.summary(found), f"kept in {path}"]))
    if form != "json":
        print(_power_line())
    return 0


def _power_line() -> str:
    from evaluators.devices.power_meter import power_meter

    meter = power_meter()
    if meter is None:
        return "energy: an estimate from the figures of an x86 core or an Arm board; no power meter (RAPL, NVML) can be read here"
    return f"energy: an estimate from the figures of an x86 core or an Arm board; {meter.name} can be read and has counted {meter.read_j():.0f} J"
