"""Device strings, ``DEVICE[.UNIT]/RUNTIME[:THREADSt]``: what they mean and what they may leave out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compressors.errors import UserError, near_miss
from evaluators.devices.profile import load_profile, profile_names

__all__ = ["THIS_HOST", "DeviceKey", "device_keys", "device_names", "parse_device", "resolve_device", "units_of"]

THIS_HOST = "this-host"
_FORM = re.compile(r"(?P<device>[^./:\s]+)(\.(?P<unit>[^./:\s]+))?(/(?P<runtime>[^./:\s]+))?(:(?P<threads>[1-9]\d*)t)?")


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A resolved device string.

    Attributes:
        device: a profile's name, or ``this-host``.
        unit: ``cpu``, ``gpu`` or ``npu``.
        runtime: a target's name.
        threads: None for the unit's default.
        default_unit: whether ``unit`` is what the runtime uses on this device when none is named; then the key leaves it out.
    """

    device: str
    unit: str
    runtime: str
    threads: int | None
    default_unit: bool

    def __str__(self) -> str:
        unit = "" if self.default_unit else f".{self.unit}"
        threads = "" if self.threads is None else f":{self.threads}t"
        return f"{self.device}{unit}/{self.runtime}{threads}"


def device_names() -> tuple[str, ...]:
    """Every device that can be named, ``this-host`` first."""
    return (THIS_HOST, *profile_names())


def units_of(device: str) -> dict[str, tuple[str, ...]]:
    """Runtimes of each unit of a device, the default unit first."""
    if device == THIS_HOST:
        return {"cpu": ("onnxruntime",)}
    return {name: tuple(unit.runtimes) for name, unit in load_profile(device).units.items()}


def device_keys() -> tuple[str, ...]:
    """The full key of every device, unit and runtime."""
    return tuple(
        str(parse_device(f"{device}.{unit}/{runtime}")) for device in device_names() for unit, runtimes in units_of(device).items() for runtime in runtimes
    )


def parse_device(text: str, target: str | None = None) -> DeviceKey:
    """What ``text`` means.

    A unit left out is the first of the device that has the runtime; a runtime left out is the only one of the device (or unit),
    else the study's ``target`` if the device has it.

    Raises:
        UserError: unknown device, unit or runtime, or a runtime left out where several are meant.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise UserError(f"device {text!r} is not of the form DEVICE[.UNIT]/RUNTIME[:THREADSt], such as raspberry-pi-5/onnxruntime or galaxy-s24.npu/litert")
    device, unit, runtime = match["device"], match["unit"], match["runtime"]
    if device not in device_names():
        raise UserError(f"unknown device {device!r}; accepted: {', '.join(device_names())}{near_miss(device, device_names())}")
    units = units_of(device)
    if unit is not None and unit not in units:
        raise UserError(f"device {device!r} has no unit {unit!r}; accepted: {', '.join(units)}{near_miss(unit, units)}")
    searched = {unit: units[unit]} if unit is not None else units
    place = f"{device}.{unit}" if unit is not None else device
    runtimes = tuple(dict.fromkeys(r for rs in searched.values() for r in rs))
    if runtime is None:
        if len(runtimes) > 1 and target not in runtimes:
            raise UserError(f"device {text!r} leaves open which runtime is meant; accepted: {', '.join(f'{place}/{r}' for r in runtimes)}")
        runtime = target if target in runtimes else runtimes[0]
    if runtime not in runtimes:
        raise UserError(f"device {place!r} has no runtime {runtime!r}; accepted: {', '.join(runtimes)}{near_miss(runtime, runtimes)}")
    default = next(u for u, rs in units.items() if runtime in rs)
    threads = None if match["threads"] is None else int(match["threads"])
    if threads is not None and (unit or default) != "cpu":
        raise UserError(f"device {text!r}: threads apply to a cpu only")
    return DeviceKey(device, unit or default, runtime, threads, (unit or default) == default)


def resolve_device(text: str, target: str | None = None) -> str:
    """The canonical key of a device string, such as ``galaxy-s24.npu/litert``; see ``parse_device``.

    Raises:
        UserError: see ``parse_device``.
    """
    return str(parse_device(text, target))
