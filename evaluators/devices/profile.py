"""Device profiles: what a device can do, every figure with its source. Completed from a profile file (``profile_file``) and the shared tables."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pydantic

from compressors.errors import UserError
from evaluators.devices.profile_file import Clock, CoresEntry, Network, ProfileFile, UnitEntry, read_profile_file
from evaluators.devices.profile_tables import (
    PROFILES,
    STRICT,
    DeviceClass,
    Efficiency,
    Heat,
    Positive,
    RuntimeType,
    Sleep,
    Source,
    architectures,
    class_tables,
    core_types,
    efficiencies,
    runtime_types,
)

__all__ = [
    "BUSY",
    "FOLDERS",
    "PROFILES",
    "Efficiency",
    "Figure",
    "Profile",
    "RuntimeEntry",
    "Unit",
    "efficiencies",
    "load_profile",
    "profile_names",
    "profile_path",
]

FOLDERS = "COMPARETO_PROFILES"
"""Environment variable: files or folders of one's own profiles, separated like PATH; they come before those that are shipped."""
BUSY = 0.5
"""Of the peak while a kernel runs: what turns the energy of a cycle into that of a multiply-accumulate."""

_FALLBACK = {"fp32": ("fp16",), "fp16": ("fp32",), "int8": ("fp16", "fp32"), "int4": ("fp16", "fp32")}


class Figure(pydantic.BaseModel):
    """A positive number and where it comes from."""

    model_config = STRICT

    value: Positive
    source: Source


class RuntimeEntry(pydantic.BaseModel):
    """One runtime on one unit.

    Attributes:
        launch_us: fixed cost of one kernel, microseconds.
        overhead_ms: fixed cost of one inference, milliseconds.
        memory_bytes: what the runtime itself occupies.
        weight_copies: how often it holds a weight at its peak, by kind of kernel.
        fallback: precisions that it does not compute in, with the one it uses instead.
    """

    model_config = STRICT

    launch_us: Figure
    overhead_ms: Figure
    memory_bytes: Figure
    weight_copies: dict[str, float] = {}
    fallback: dict[str, str] = {}


class Unit(pydantic.BaseModel):
    """A processor of the device.

    Attributes:
        cores: of a cpu, the fastest first; empty for an accelerator.
        threads: used where the device string names none; also the number that ``peak_gmacs`` counts.
        thread_scaling: exponent of the speed-up with threads, 1 is perfect.
        peak_gmacs: theoretical peak by precision, 1e9 multiply-accumulates a second.
        bandwidth_gb_s: theoretical bandwidth of its memory, 1e9 bytes a second.
        half_outputs: outputs of a kernel at which half of the peak is reached.
        idle_w: power of the device at rest, watts.
        pj_per_mac, pj_per_byte: energy of the arithmetic by precision and of memory traffic, picojoules.
        gpu_device: its index where measurements have several.
    """

    model_config = STRICT

    description: str
    cores: tuple[CoresEntry, ...] = ()
    threads: Figure
    thread_scaling: Figure
    peak_gmacs: dict[str, Figure]
    bandwidth_gb_s: Figure
    half_outputs: Figure
    idle_w: Figure
    pj_per_mac: dict[str, Figure]
    pj_per_byte: Figure
    runtimes: dict[str, RuntimeEntry]
    gpu_device: int | None = None

    def peak_of(self, precision: str, threads: int) -> float:
        """1e9 multiply-accumulates a second of the fastest ``threads`` cores; of an accelerator its peak. KeyError where it has none."""
        if not self.cores:
            return self.peak_gmacs[precision].value
        return sum(count * entry.ghz * _per_cycle(entry.type, precision) for entry, count in _taken(self.cores, threads))


class Profile(pydantic.BaseModel):
    """A device. Its first unit that has the asked runtime is the default one.

    Attributes:
        device_class: phone, board, module, laptop, desktop, server or card.
        names: what measurement files call it.
        heat, sleep: see there; ``modes``: clocks of the power modes as shares of the highest.
        sustained_w: what it can hold for ever, watts.
        network: None for a device at hand.
        like: another device whose fitted rates hold here.
        fitted: by ``UNIT/RUNTIME`` what was fitted to measurements, as it stands in the file.
        file_sources: of the figures in the profile's own file, by key.
    """

    model_config = STRICT

    description: str
    device_class: str
    names: tuple[str, ...]
    memory_bytes: Figure
    units: dict[str, Unit]
    sustained_w: Figure
    heat: Heat
    sleep: Sleep
    modes: dict[str, float]
    network: Network | None
    like: Clock | None
    fitted: dict[str, Any]
    file_sources: dict[str, str]

    def tier(self, unit: str, runtime: str) -> str:
        """How well the latency of a runtime on a unit is known: measured itself, another runtime of that unit measured, or nothing."""
        if f"{unit}/{runtime}" in self.fitted:
            return "public-calibrated"
        measured = self.fitted if self.like is None else {**self.fitted, **load_profile(self.like.device).fitted}
        return "transferred" if any(key.partition("/")[0] == unit for key in measured) else "spec-only"


def profile_path(name: str) -> Path:
    """The file of the profile called ``name``, one's own before the shipped one; it may not exist."""
    return _files().get(name, PROFILES / f"{name}.yaml")


def profile_names() -> tuple[str, ...]:
    """Names of the devices with a profile, sorted."""
    return tuple(sorted(_files()))


def load_profile(name: str) -> Profile:
    """The profile called ``name``, one of ``profile_names()``, or a path that ends in .yaml, .yml or .json.

    Raises:
        UserError: see ``read_profile_file``.
    """
    return _load(Path(name) if name.endswith((".yaml", ".yml", ".json")) else profile_path(name))


def _files() -> dict[str, Path]:
    return _listed(os.environ.get(FOLDERS, ""))


@cache
def _listed(folders: str) -> dict[str, Path]:
    own: dict[str, Path] = {}
    for text in reversed([part for part in folders.split(os.pathsep) if part]):
        place = Path(text).expanduser()
        if not place.exists():
            raise UserError(f"{FOLDERS}: {text!r} does not exist; accepted: files and folders of device profiles, separated by {os.pathsep!r}")
        own.update(_in_folder(place) if place.is_dir() else [(place.stem, place)])
    return {**dict(_in_folder(PROFILES)), **own}


def _in_folder(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.suffix in (".yaml", ".yml", ".json") and not path.stem.startswith("_"):
            yield path.stem, path


@cache
def _load(path: Path) -> Profile:
    written = read_profile_file(path)
    shared = class_tables().classes[written.device_class]
    try:
        return Profile(
            description=written.description,
            device_class=written.device_class,
            names=written.names,
            memory_bytes=Figure(value=written.memory.gb * 1e9, source=written.sources["memory"]),
            units={name: _unit(name, entry, written, shared) for name, entry in written.units.items()},
            sustained_w=Figure(value=written.power.sustained_w, source=written.sources["power"]),
            heat=written.heat or shared.heat,
            sleep=written.sleep or shared.sleep,
            modes=dict(written.modes or shared.modes),
            network=written.network,
            like=written.like,
            fitted=written.fitted,
            file_sources=written.sources,
        )
    except KeyError as error:
        raise UserError(f"profile {path}: nothing is known about {error.args[0]!r}") from error


def _unit(name: str, entry: UnitEntry, written: ProfileFile, shared: DeviceClass) -> Unit:
    tables = class_tables()
    memory = entry.memory or written.memory
    source = written.sources[name]
    scale = tables.process.scale[written.process_nm]
    if entry.cores:
        cores = tuple(sorted(entry.cores, key=lambda c: (core_types()[c.type].little, -c.ghz * core_types()[c.type].fp32)))
        threads = entry.threads or sum(c.count for c in cores if not core_types()[c.type].little) or sum(c.count for c in cores)
        description = " + ".join(f"{c.count} x {core_types()[c.type].name} {c.ghz:g} GHz" for c in cores)
        peaks, joules = _cpu_figures(cores, threads, scale, source)
        half = Figure(value=256, source="estimate: outputs that fill the register tiles of one core's matrix kernel several times")
        threads_figure = Figure(value=threads, source=source if entry.threads else "all cores, without the little ones of a mixed processor")
        scaling = Figure(value=shared.thread_scaling, source=shared.source)
        first = core_types()[cores[0].type]
        runtimes = entry.runtimes or architectures()[first.architecture]
        cycles_per_us = cores[0].ghz * first.scalar
    else:
        kind = tables.accelerators[entry.kind or ""]
        description = entry.name or (entry.kind or "")
        peaks = {precision: Figure(value=value, source=source) for precision, value in entry.gmacs.items()}
        joules = {p: Figure(value=round(kind.pj_per_mac[p] * scale, 3), source=f"{kind.source}; scaled to {written.process_nm} nm") for p in kind.pj_per_mac}
        half = Figure(value=kind.half_outputs, source=kind.source)
        threads_figure = scaling = Figure(value=1, source="one accelerator: threads do not apply")
        runtimes, cycles_per_us = entry.runtimes, kind.launch_scale
    traffic = tables.memory[memory.type]
    return Unit(
        description=description,
        cores=cores if entry.cores else (),
        threads=threads_figure,
        thread_scaling=scaling,
        peak_gmacs=peaks,
        bandwidth_gb_s=Figure(value=memory.gb_s, source=source if entry.memory else written.sources["memory"]),
        half_outputs=half,
        idle_w=Figure(value=written.power.idle_w, source=written.sources["power"]),
        pj_per_mac=joules,
        pj_per_byte=Figure(value=traffic.pj_per_byte, source=f"{memory.type}: {traffic.source}"),
        runtimes={runtime: _runtime(runtime_types()[f"{runtime}.{name}"], peaks, cycles_per_us) for runtime in runtimes},
        gpu_device=entry.gpu_device,
    )


def _taken(cores: tuple[CoresEntry, ...], threads: int) -> Iterator[tuple[CoresEntry, int]]:
    """How many cores of each entry ``threads`` threads occupy."""
    for entry in cores:
        count = min(entry.count, threads)
        threads -= count
        if count:
            yield entry, count


def _per_cycle(core: str, precision: str) -> float:
    value = getattr(core_types()[core], "fp32" if precision == "int4" else precision)
    if value is None:
        raise KeyError(precision)
    return float(value)


def _cpu_figures(cores: tuple[CoresEntry, ...], threads: int, scale: float, clocks: str) -> tuple[dict[str, Figure], dict[str, Figure]]:
    taken = list(_taken(cores, threads))
    halves = all(core_types()[entry.type].fp16 for entry, _ in taken)
    rates = "; ".join(dict.fromkeys(core_types()[entry.type].source for entry, _ in taken))
    watts = sum(count * entry.ghz * core_types()[entry.type].pj_per_cycle * scale for entry, count in taken) * 1e-3
    peaks, joules = {}, {}
    for precision in ("fp32", "fp16", "int8", "int4") if halves else ("fp32", "int8", "int4"):
        sums = " + ".join(f"{count} x {entry.ghz:g} GHz x {_per_cycle(entry.type, precision):g}" for entry, count in taken)
        peak = sum(count * entry.ghz * _per_cycle(entry.type, precision) for entry, count in taken)
        peaks[precision] = Figure(value=round(peak, 3), source=f"{sums} a cycle ({clocks}; {rates})")
        source = f"estimate: a busy core draws the same in every precision, {watts:.2g} W for {threads} threads (pj_per_cycle of its type), at half of the peak"
        joules[precision] = Figure(value=round(watts * 1e3 / (peak * BUSY), 3), source=source)
    return peaks, joules


def _runtime(runtime: RuntimeType, peaks: dict[str, Figure], speed: float) -> RuntimeEntry:
    """``speed``: for a cpu, thousands of Cortex-A76 cycles a microsecond times 1e-3; for an accelerator what a launch takes, against a desktop card's."""
    computes = set(peaks) & set(runtime.computes)
    fallback = {}
    for precision in ("fp32", "fp16", "int8", "int4"):
        if precision not in computes:
            wanted = (runtime.fallback.get(precision, precision), *_FALLBACK[precision])
            fallback[precision] = next(other for other in wanted if other in computes)
    if runtime.launch_kcycles is not None and runtime.overhead_kcycles is not None:
        launch_us, overhead_ms = runtime.launch_kcycles / speed, runtime.overhead_kcycles / speed * 1e-3
    else:
        launch_us, overhead_ms = (runtime.launch_us or 0.0) * speed, runtime.overhead_ms or 0.0
    return RuntimeEntry(
        launch_us=Figure(value=float(f"{launch_us:.3g}"), source=runtime.source),
        overhead_ms=Figure(value=float(f"{overhead_ms:.3g}"), source=runtime.source),
        memory_bytes=Figure(value=runtime.memory_mb * 1e6, source=runtime.source),
        weight_copies=dict(runtime.weight_copies),
        fallback=fallback,
    )
