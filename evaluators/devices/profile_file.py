"""A profile as people write it: a few figures with their sources, YAML or JSON; ``evaluators.devices.profile`` completes it from the shared tables.

    description: Raspberry Pi 4 Model B (Broadcom BCM2711), 4 GB
    class: board                                         # heat, sleep, power modes: _classes.yaml
    names: ["Raspberry Pi 4 Model B ..."]                # what measurement files call it
    memory: {gb: 4, type: lpddr4, gb_s: 12.8}
    process_nm: 28
    units:
      cpu: {cores: [{type: cortex-a72, count: 4, ghz: 1.8}]}                    # _cores.yaml
      gpu: {kind: mobile-gpu, name: VideoCore VI, gmacs: {fp32: 16}}            # peaks, 1e9 multiply-accumulates a second
    power: {idle_w: 2.7, sustained_w: 7}
    sources: {memory: ..., process_nm: ..., cpu: ..., gpu: ..., power: ...}     # where each of the above comes from

A figure that its maker does not state is an estimate, and its source says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic
import yaml

from compressors.errors import UserError, near_miss
from evaluators.devices.profile_tables import STRICT, Heat, Positive, Sleep, Source, class_tables, core_types, read_yaml, runtime_types

__all__ = ["Clock", "CoresEntry", "MemoryEntry", "Network", "Power", "ProfileFile", "UnitEntry", "read_profile_file"]

_Count = Annotated[int, pydantic.Field(ge=1)]


def _known(word: str, accepted: Any, what: str) -> None:
    if word not in accepted:
        raise ValueError(f"unknown {what} {word!r}; accepted: {', '.join(map(str, accepted))}{near_miss(word, map(str, accepted))}")


class CoresEntry(pydantic.BaseModel):
    """Cores of one type: how many, and their highest clock."""

    model_config = STRICT

    type: str
    count: _Count
    ghz: Positive

    @pydantic.model_validator(mode="after")
    def _type(self) -> CoresEntry:
        _known(self.type, core_types(), "core type")
        return self


class MemoryEntry(pydantic.BaseModel):
    """Capacity in 1e9 bytes, type, and bandwidth in 1e9 bytes a second."""

    model_config = STRICT

    gb: Positive
    type: str
    gb_s: Positive

    @pydantic.model_validator(mode="after")
    def _type(self) -> MemoryEntry:
        _known(self.type, class_tables().memory, "memory type")
        return self


class UnitEntry(pydantic.BaseModel):
    """A processor: ``cores`` of a cpu, or ``kind`` and peak ``gmacs`` of an accelerator.

    Attributes:
        threads: used where none are named; else all cores that are not little.
        runtimes: else those of the cores' architecture.
        gpu_device: its index where measurements have several.
    """

    model_config = STRICT

    cores: tuple[CoresEntry, ...] = ()
    threads: _Count | None = None
    kind: str | None = None
    name: str = ""
    gmacs: dict[str, Positive] = {}
    memory: MemoryEntry | None = None
    runtimes: tuple[str, ...] = ()
    gpu_device: Annotated[int, pydantic.Field(ge=0)] | None = None

    @pydantic.model_validator(mode="after")
    def _one_form(self) -> UnitEntry:
        if bool(self.cores) == bool(self.gmacs):
            raise ValueError("give either cores (of a cpu) or kind, name, gmacs and runtimes (of an accelerator)")
        if self.gmacs:
            _known(self.kind or "", class_tables().accelerators, "kind of accelerator")
            for precision in self.gmacs:
                _known(precision, ("fp32", "fp16", "int8"), "precision")
            if not self.gmacs.keys() & {"fp32", "fp16"}:
                raise ValueError("gmacs needs fp32 or fp16: a part of every network stays float")
            if not self.runtimes:
                raise ValueError("an accelerator needs its runtimes listed")
        elif sum(c.count for c in self.cores) < (self.threads or 1):
            raise ValueError(f"threads {self.threads} are more than the cores")
        return self


class Power(pydantic.BaseModel):
    """Watts: at rest and awake, and what the device can hold for ever."""

    model_config = STRICT

    idle_w: Positive
    sustained_w: Positive

    @pydantic.model_validator(mode="after")
    def _more_than_idle(self) -> Power:
        if self.sustained_w <= self.idle_w:
            raise ValueError(f"sustained_w {self.sustained_w:g} is not above idle_w {self.idle_w:g}")
        return self


class Network(pydantic.BaseModel):
    """What lies between the caller and a device that is elsewhere: round trip, 1e6 bytes a second each way, watts of the caller's radio."""

    model_config = STRICT

    rtt_ms: Positive
    upload_mb_s: Positive
    download_mb_s: Positive
    radio_w: Positive


class Clock(pydantic.BaseModel):
    """Another device with the same processors, whose fitted rates hold here times ``clock``."""

    model_config = STRICT

    device: str
    clock: Positive = 1.0


class ProfileFile(pydantic.BaseModel):
    """The keys of a profile; see the module."""

    model_config = pydantic.ConfigDict(**{**STRICT, "populate_by_name": True})

    description: str
    device_class: str = pydantic.Field(alias="class")
    names: tuple[str, ...] = ()
    memory: MemoryEntry
    process_nm: int
    units: dict[str, UnitEntry]
    power: Power
    heat: Heat | None = None
    sleep: Sleep | None = None
    modes: dict[str, Annotated[float, pydantic.Field(gt=0, le=1)]] | None = None
    network: Network | None = None
    like: Clock | None = None
    sources: dict[str, Source]
    fitted: dict[str, Any] = {}

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> ProfileFile:
        _known(self.device_class, class_tables().classes, "class")
        _known(str(self.process_nm), [str(nm) for nm in class_tables().process.scale], "process_nm")
        for unit, entry in self.units.items():
            _known(unit, ("cpu", "gpu", "npu"), "unit")
            for runtime in entry.runtimes:
                _known(runtime, [key.partition(".")[0] for key in runtime_types() if key.endswith(f".{unit}")], f"runtime of a {unit}")
        if not self.units:
            raise ValueError("units: at least one of cpu, gpu, npu is needed")
        needed = ["memory", "process_nm", *self.units, "power", *(key for key in ("heat", "sleep", "modes", "network") if getattr(self, key) is not None)]
        for key in needed:
            if key not in self.sources:
                raise ValueError(f"sources.{key} is missing: every figure needs the place where it comes from, or 'estimate: ...'")
        for key in self.sources:
            _known(key, needed, "source")
        return self


def read_profile_file(path: Path) -> ProfileFile:
    """Read and check a profile.

    Raises:
        UserError: it cannot be read, or has a missing, negative or unknown figure; names the file, every key and value and what is accepted.
    """
    try:
        data = read_yaml(path)
    except OSError as error:
        raise UserError(f"profile {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"profile {path}: is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise UserError(f"profile {path}: expected keys such as description, memory and units, got {type(data).__name__}")
    try:
        return ProfileFile.model_validate(data)
    except pydantic.ValidationError as error:
        raise UserError(f"profile {path}: " + "; ".join(_problem(entry) for entry in error.errors())) from error


def _problem(entry: Any) -> str:
    place, value, kind = ".".join(map(str, entry["loc"])), entry["input"], entry["type"]
    if kind == "missing":
        return f"{place} is missing"
    if kind == "extra_forbidden":
        return f"{place} is not a key of a profile{near_miss(str(entry['loc'][-1]), _keys())}"
    message = str(entry["msg"]).removeprefix("Value error, ")
    shown = f" is {value!r}" if not isinstance(value, (dict, list, pydantic.BaseModel)) else ""
    where = f"{place}{shown}: " if place else ""
    return where + message[0].lower() + message[1:]


def _keys() -> set[str]:
    models: tuple[type[pydantic.BaseModel], ...] = (ProfileFile, UnitEntry, CoresEntry, MemoryEntry, Power, Heat, Sleep, Network, Clock)
    return {field.alias or name for model in models for name, field in model.model_fields.items()}
