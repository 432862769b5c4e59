"""Device strings, ``DEVICE[.UNIT]/RUNTIME[:THREADSt][:MODE]``: what they mean and what they may leave out."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from compressors.errors import UserError, near_miss
from evaluators.devices.profile import load_profile, profile_names

__all__ = ["EXPORTED", "THIS_HOST", "DeviceKey", "device_keys", "device_names", "parse_device", "resolve_device", "units_of", "unknown_device"]

THIS_HOST = "this-host"
_FORM = re.compile(r"(?P<device>[^./:\s]+)(\.(?P<unit>[^./:\s]+))?(/(?P<runtime>[^./:\s]+))?(?P<options>(:[^./:\s]+)*)")
_THREADS = re.compile(r"([1-9]\d*)t")
EXPORTED = ("onnxruntime", "litert", "executorch")
"""Runtimes that a study can have as target; the others, such as ncnn, are only meant where they are named."""
_FULL_SPEED = "performance"


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A resolved device string.

    Attributes:
        device: a profile's name, or ``this-host``.
        unit: ``cpu``, ``gpu`` or ``npu``; ``npu+cpu`` where a model is placed on several, the last of which executes what the others cannot.
        runtime: a target's name.
        threads: None for the unit's default.
        mode: power mode; None for the highest clock.
        default_unit: whether ``unit`` is what the runtime uses on this device when none is named; then the key leaves it out.
    """

    device: str
    unit: str
    runtime: str
    threads: int | None
    default_unit: bool
    mode: str | None = None

    @property
    def units(self) -> tuple[str, ...]:
        """One or several."""
        return tuple(self.unit.split("+"))

    def __str__(self) -> str:
        unit = "" if self.default_unit else f".{self.unit}"
        threads = "" if self.threads is None else f":{self.threads}t"
        mode = "" if self.mode is None else f":{self.mode}"
        return f"{self.device}{unit}/{self.runtime}{threads}{mode}"


def device_names() -> tuple[str, ...]:
    """Every device that can be named, ``this-host`` first."""
    return (THIS_HOST, *profile_names())


def units_of(device: str) -> dict[str, tuple[str, ...]]:
    """Runtimes of each unit of a device, the default unit first."""
    if device == THIS_HOST:
        return {"cpu": EXPORTED}
    return {name: tuple(unit.runtimes) for name, unit in load_profile(device).units.items()}


def device_keys() -> tuple[str, ...]:
    """The full key of every device, unit and runtime."""
    return tuple(
        str(parse_device(f"{device}.{unit}/{runtime}")) for device in device_names() for unit, runtimes in units_of(device).items() for runtime in runtimes
    )


def unknown_device(name: str) -> UserError:
    """The error for a device that there is not: the few nearest names, and how to see all."""
    nearest = difflib.get_close_matches(name, device_names(), n=4, cutoff=0.5)
    listed = f"the nearest are {', '.join(nearest)}; " if nearest else ""
    return UserError(f"unknown device {name!r}; {listed}all {len(device_names())} are listed by: compareto devices list{near_miss(name, nearest)}")


def parse_device(text: str, target: str | None = None) -> DeviceKey:
    """What ``text`` means.

    A unit left out is the first of the device that has the runtime; a runtime left out is the only one of the device (or unit) that
    models are exported for, else the study's ``target`` if the device has it; on this host else ONNX Runtime. Threads, such as ``2t``, and a power mode, such
    as ``eco``, may follow. Several units, such as ``npu+cpu``, share a model.

    Raises:
        UserError: unknown device, unit, runtime or power mode, or a runtime left out where several are meant.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UserError(
            f"device {text!r} is not of the form DEVICE[.UNIT]/RUNTIME[:THREADSt][:MODE], such as raspberry-pi-5/onnxruntime, galaxy-s24.npu/litert or "
            "galaxy-s24/litert:2t:eco"
        )
    device, unit, runtime = match["device"], match["unit"], match["runtime"]
    if device not in device_names():
        raise unknown_device(device)
    units = units_of(device)
    asked = unit.split("+") if unit is not None else []
    for name in asked:
        if name not in units:
            raise UserError(f"device {device!r} has no unit {name!r}; accepted: {', '.join(units)}{near_miss(name, units)}")
        if asked.count(name) > 1:
            raise UserError(f"device {text!r} lists the unit {name!r} twice; accepted: each of {', '.join(units)} at most once")
    place = f"{device}.{unit}" if unit is not None else device
    runtimes = tuple(dict.fromkeys(r for name in asked or units for r in units[name] if all(r in units[other] for other in asked)))
    if not runtimes:
        there = "; ".join(f"{name}: {', '.join(units[name])}" for name in asked)
        raise UserError(f"device {place!r}: no runtime is on all of these units; there are {there}")
    if runtime is None:
        meant = [r for r in runtimes if r in EXPORTED] or list(runtimes)
        if len(meant) > 1 and target not in meant and device != THIS_HOST:
            raise UserError(f"device {text!r} leaves open which runtime is meant; accepted: {', '.join(f'{place}/{r}' for r in runtimes)}")
        runtime = target if target in meant else meant[0]
    if runtime not in runtimes:
        raise UserError(f"device {place!r} has no runtime {runtime!r}; accepted: {', '.join(runtimes)}{near_miss(runtime, runtimes)}")
    default = next(u for u, rs in units.items() if runtime in rs)
    threads, mode = _options(text, device, match["options"])
    if threads is not None and "cpu" not in (asked or [default]):
        raise UserError(f"device {text!r}: threads apply to a cpu only")
    return DeviceKey(device, unit or default, runtime, threads, (unit or default) == default, mode)


def _options(text: str, device: str, written: str) -> tuple[int | None, str | None]:
    """Threads and power mode of ``:2t:eco``; the highest mode counts as none."""
    modes = () if device == THIS_HOST else tuple(load_profile(device).modes)
    threads: int | None = None
    mode: str | None = None
    for option in written.split(":")[1:]:
        count = _THREADS.fullmatch(option)
        if count is not None and threads is None and mode is None:
            threads = int(count[1])
        elif option in modes and mode is None:
            mode = option
        else:
            accepted = "threads, such as 2t" + (f", then a power mode: {', '.join(modes)}" if modes else "; its power modes are not known")
            raise UserError(f"device {text!r}: {option!r} is not accepted there; accepted: {accepted}{near_miss(option, modes)}")
    return threads, None if mode == _FULL_SPEED else mode


def resolve_device(text: str, target: str | None = None) -> str:
    """The canonical key of a device string, such as ``galaxy-s24.npu/litert``; see ``parse_device``.

    Raises:
        UserError: see ``parse_device``.
    """
    return str(parse_device(text, target))
