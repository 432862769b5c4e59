"""What kind of processor a setting was measured on: devices that are alike in this are expected to be alike in which work is cheap."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.fitting.setting import Setting
from evaluators.devices.profile import load_profile, profile_names
from evaluators.devices.profile_tables import CoreType, core_types

__all__ = ["KINDS", "kind_of", "owners"]

KINDS = ("dot products of integers", "arithmetic in half precision", "x86", "neither Arm nor x86", "width of its vectors")
_LITTLE = 1


@cache
def owners() -> dict[str, str]:
    """The profile that lists each name of a device."""
    return {name: profile for profile in profile_names() for name in load_profile(profile).names}


def kind_of(setting: Setting) -> NDArray[np.float64]:
    """``[KINDS]``, 0 or 1 each, and doublings of the vectors beyond 128 bits; all 0, a plain 64-bit Arm core, where nothing is known, and for accelerators."""
    core = _core(setting) if setting.unit == "cpu" else None
    if core is None:
        return np.zeros(len(KINDS))
    arm = core.architecture in ("aarch64", "armv7")
    x86 = core.architecture.startswith("x86")
    dots = bool({"dot", "vnni"} & set(core.features))
    return np.array([dots, core.fp16 is not None, x86, not (arm or x86), np.log2(core.fp32 / 4)], dtype=np.float64)


def _core(setting: Setting) -> CoreType | None:
    """From the profile that lists the device, else from the name itself, the core that it mentions first."""
    if setting.device in owners():
        unit = load_profile(owners()[setting.device]).units.get("cpu")
        if unit is not None:
            types = [core_types()[entry.type] for entry in unit.cores]
            chosen = [core for core in types if core.little == (setting.cores == _LITTLE)] or types
            return chosen[0] if chosen else None
    found = [(place, core) for core in core_types().values() if (place := setting.device.find(core.name)) >= 0]
    return max(found, key=lambda pair: (-pair[0], len(pair[1].name)))[1] if found else None
