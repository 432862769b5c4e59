"""Device profiles: what a device can do, as YAML in which every figure carries its source."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import pydantic
import yaml

__all__ = ["PROFILES", "Efficiency", "Figure", "Profile", "RuntimeEntry", "Unit", "efficiencies", "load_profile", "profile_names"]

PROFILES = Path(__file__).parent / "profiles"
_EFFICIENCY = "_efficiency"
_STRICT = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

Positive = Annotated[float, pydantic.Field(gt=0)]
Source = Annotated[str, pydantic.StringConstraints(min_length=10)]


class Figure(pydantic.BaseModel):
    """A positive number and where it comes from."""

    model_config = _STRICT

    value: Positive
    source: Source


class RuntimeEntry(pydantic.BaseModel):
    """One runtime on one unit.

    Attributes:
        launch_us: fixed cost of one kernel, microseconds.
        overhead_ms: fixed cost of one inference, milliseconds.
        memory_bytes: what the runtime itself occupies.
        fallback: precisions that it does not compute in, with the one it uses instead.
    """

    model_config = _STRICT

    launch_us: Figure
    overhead_ms: Figure
    memory_bytes: Figure
    fallback: dict[str, str] = {}


class Unit(pydantic.BaseModel):
    """A processor of the device.

    Attributes:
        threads: used where the device string names none; also the number that ``peak_gmacs`` counts.
        thread_scaling: exponent of the speed-up with threads, 1 is perfect.
        peak_gmacs: theoretical peak by precision, 1e9 multiply-accumulates a second.
        bandwidth_gb_s: theoretical bandwidth of its memory, 1e9 bytes a second.
        half_outputs: outputs of a kernel at which half of the peak is reached.
        idle_w: power of the device at rest, watts.
        pj_per_mac, pj_per_byte: energy of the arithmetic by precision and of memory traffic, picojoules.
    """

    model_config = _STRICT

    description: str
    threads: Figure
    thread_scaling: Figure
    peak_gmacs: dict[str, Figure]
    bandwidth_gb_s: Figure
    half_outputs: Figure
    idle_w: Figure
    pj_per_mac: dict[str, Figure]
    pj_per_byte: Figure
    runtimes: dict[str, RuntimeEntry]

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Unit:
        if "fp32" not in self.peak_gmacs and "fp16" not in self.peak_gmacs:
            raise ValueError("peak_gmacs needs fp32 or fp16: a part of every network stays float")
        for name, runtime in self.runtimes.items():
            for wanted in ("fp32", "fp16", "int8", "int4"):
                used = runtime.fallback.get(wanted, wanted)
                if used not in self.peak_gmacs:
                    raise ValueError(f"runtimes.{name}: {wanted} runs as {used}, which has no peak_gmacs; accepted: {', '.join(self.peak_gmacs)}")
                if used not in self.pj_per_mac:
                    raise ValueError(f"pj_per_mac has no {used}")
        return self


class Profile(pydantic.BaseModel):
    """A device. Its first unit that has the asked runtime is the default one."""

    model_config = _STRICT

    description: str
    memory_bytes: Figure
    units: dict[str, Unit]


class Efficiency(pydantic.BaseModel):
    """How near a runtime comes to the peak of a unit, by op class: fractions of peak compute, or of bandwidth for classes without arithmetic."""

    model_config = _STRICT

    source: Source
    compute: dict[str, dict[str, Positive]]
    bandwidth: dict[str, Positive]


def profile_names() -> tuple[str, ...]:
    """Names of the devices with a profile, sorted."""
    return tuple(sorted(p.stem for p in PROFILES.glob("*.yaml") if not p.stem.startswith("_")))


@cache
def load_profile(name: str) -> Profile:
    """The profile called ``name``, one of ``profile_names()``."""
    return Profile.model_validate(yaml.safe_load((PROFILES / f"{name}.yaml").read_text(encoding="utf-8")))


@cache
def efficiencies() -> dict[str, Efficiency]:
    """Efficiency tables by ``RUNTIME.UNIT``."""
    data = yaml.safe_load((PROFILES / f"{_EFFICIENCY}.yaml").read_text(encoding="utf-8"))
    return {key: Efficiency.model_validate(value) for key, value in data.items()}
