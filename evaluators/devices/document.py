"""``docs/devices.md``: the profiles as a page. Written by ``python -m evaluators.devices.document docs/devices.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evaluators.devices.heat import resistance_c_per_w
from evaluators.devices.names import units_of
from evaluators.devices.profile import Figure, Profile, Unit, efficiencies, load_profile, profile_names
from evaluators.devices.profile_tables import class_tables, core_types, runtime_types

__all__ = ["device_lines", "markdown"]

_INTRODUCTION = """# Devices

Generated from `evaluators/devices/profiles/*.yaml` by `python -m evaluators.devices.document docs/devices.md`; edit the profiles, not this page.

A device is written `DEVICE[.UNIT]/RUNTIME[:THREADSt][:MODE]`: `raspberry-pi-5/onnxruntime`, `galaxy-s24.npu/litert`, `raspberry-pi-4/litert:1t`,
`galaxy-s24/litert:2t:eco`. The unit may be left out where the first one listed is meant, the runtime where models are exported for only one of the device's
or where the study's target is meant. `ncnn` and `qnn_dlc` can be priced, not exported for. Power modes are performance (the default), balanced and eco.
`this-host` is the machine at hand in the study's runtime, with one thread unless `:Nt` says otherwise; it is calibrated once
(`compareto devices calibrate [--runtime litert]`). ONNX Runtime takes 30 seconds, which a search does by itself; where another runtime is not calibrated yet,
the nearest profile stands in, and it is said.
Several units, such as `galaxy-s24.npu+cpu/litert`, share a model: kernels go where they and their transfers take least, and the last unit executes what the
others cannot.
`remote` is a server behind a network: round trip and transfer are added to its latency, and its energy is what the caller's radio takes.

Tiers: `public-calibrated` rates were fitted to published measurements of that device and runtime; `transferred` ones to another runtime of it, or to another
device with the same processor; `spec-only` ones are data sheet peaks times efficiencies pooled over other devices, believed (90 %) within 0.4 to 2.5 times the
value. What is computed in a precision that the unit does not have uses a fallback, and pays for converting activations where that crosses between floats and
integers; float networks run in half precision on a neural processor. Runtimes that models are exported for fuse kernels by their own rules, the others as
ONNX Runtime does.
Energy is an estimate everywhere: power at rest for the whole inference, plus multiply-accumulates and bytes, capped at what the device can draw for ever.

Anchors: `compareto devices calibrate pixel-7/litert --anchor ARTIFACT=bench.json` (what an artifact's `bench.py` printed there; or `ARTIFACT=12.3ms,2.5W`, or
`EXPERIMENT.yaml=12.3` of the uncompressed model) keeps a measurement, and variants of that model are priced by it from then on, `public-calibrated`, on that
device, runtime, number of threads and power mode. One anchor scales, several tell classes of kernels apart; `--forget` drops them.

A profile of your own: write a YAML or JSON file like those (`compareto devices show FILE` checks it) and set `COMPARETO_PROFILES` to the file or its folder;
its name is the file's, and it comes before a shipped profile of the same name.
"""

_SHARED = """## Shared figures

Core types: multiply-accumulates a cycle at most, speed of ordinary code against a Cortex-A76, energy of a busy cycle at 7 nm.
"""

_EFFICIENCIES = """## Efficiencies

Fractions of the peaks that a runtime reaches, by op class, where nothing was measured.
"""


def markdown() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, "## Runtimes\n\n" + "\n".join(_overview()) + "\n"]
    parts += ["## Figures\n", *(f"### {name}\n\n" + "\n".join(_short_lines(load_profile(name))) + "\n" for name in profile_names())]
    parts.append(_SHARED + "\n" + "\n".join(_shared_lines()) + "\n")
    parts.append(_EFFICIENCIES + "\n" + "\n".join(_efficiency_lines()) + "\n")
    return "\n".join(parts)


def device_lines(name: str) -> Iterator[str]:
    """A device's figures with their sources, as a Markdown table per unit."""
    profile = load_profile(name)
    yield f"{profile.description}."
    yield ""
    yield f"Memory: {profile.memory_bytes.value / 1e9:g} GB ({profile.memory_bytes.source})."
    yield from _power_lines(profile)
    for unit_name, unit in profile.units.items():
        yield ""
        yield f"**{unit_name}**: {unit.description}; runtimes " + ", ".join(f"{r} ({profile.tier(unit_name, r)})" for r in unit.runtimes)
        yield ""
        yield "| figure | value | source |"
        yield "|---|---|---|"
        for label, figure, measure in _figures(unit):
            yield f"| {label} | {figure.value:,.6g} {measure}".rstrip() + f" | {figure.source} |"
        fallbacks = [f"{runtime}: {a} as {b}" for runtime, entry in unit.runtimes.items() for a, b in entry.fallback.items()]
        if fallbacks:
            yield ""
            yield f"Fallback: {'; '.join(fallbacks)}."


def _overview() -> Iterator[str]:
    yield "Rows are the measurements that were fitted to; the error is the mean absolute percentage of networks held out."
    yield ""
    yield "| device | runtimes | tier | rows | error fp32 | error int8 | measured in |"
    yield "|---|---|---|---|---|---|---|"
    for name in profile_names():
        profile = load_profile(name)
        for unit, runtimes in units_of(name).items():
            alike: dict[str, list[str]] = {}
            for runtime in runtimes:
                entry = profile.fitted.get(f"{unit}/{runtime}", {})
                cells = [profile.tier(unit, runtime), str(entry.get("rows", "")), *_errors(entry), str(entry.get("source", ""))]
                alike.setdefault(" | ".join(cells), []).append(runtime)
            for row, same in alike.items():
                yield f"| {name}.{unit} | {', '.join(same)} | {row} |"


def _errors(entry: Any) -> tuple[str, str]:
    errors = entry.get("error", {})
    return tuple(f"{errors[p]:.0%}" if p in errors else "" for p in ("fp32", "int8"))  # type: ignore[return-value]


def _short_lines(profile: Profile) -> Iterator[str]:
    yield f"{profile.description}. {profile.memory_bytes.value / 1e9:g} GB; {profile.device_class}."
    yield ""
    for unit_name, unit in profile.units.items():
        peaks = ", ".join(f"{p} {figure.value:,.4g}" for p, figure in unit.peak_gmacs.items() if p != "int4")
        threads = f", {unit.threads.value:g} threads" if unit.cores else ""
        yield f"- **{unit_name}**: {unit.description}{threads}; {peaks} GMAC/s; {unit.bandwidth_gb_s.value:g} GB/s"
    yield f"- **power**: {next(iter(profile.units.values())).idle_w.value:g} W at rest, {profile.sustained_w.value:g} W for ever"
    if profile.network is not None:
        n = profile.network
        yield f"- **network**: {n.rtt_ms:g} ms round trip, {n.upload_mb_s:g} and {n.download_mb_s:g} MB/s up and down, {n.radio_w:g} W of radio"
    if profile.like is not None:
        yield f"- **like**: {profile.like.device} at {profile.like.clock:g} of its clock"
    if profile.names:
        yield "- **measured as**: " + "; ".join(f"`{text}`" for text in profile.names)
    yield "- **sources**: " + "; ".join(f"{key}: {text}" for key, text in profile.file_sources.items())


def _power_lines(profile: Profile) -> Iterator[str]:
    heat, sleep, watts = profile.heat, profile.sleep, profile.sustained_w
    resistance = resistance_c_per_w(heat, watts.value)
    yield ""
    yield (
        f"Power: {watts.value:g} W sustained ({watts.source}). Heat: {resistance:.3g} K/W over {heat.ambient_c:g} C, limit {heat.limit_c:g} C, "
        f"time constant {heat.time_constant_s:g} s. Asleep: {sleep.sleep_w:g} W, {sleep.wake_ms:g} ms to wake. "
        f"Clocks: {', '.join(f'{mode} {share:.0%}' for mode, share in profile.modes.items())}."
    )
    if profile.network is not None:
        n = profile.network
        yield ""
        yield (
            f"Network: {n.rtt_ms:g} ms round trip, {n.upload_mb_s:g} MB/s up, {n.download_mb_s:g} MB/s down, {n.radio_w:g} W of radio "
            f"({profile.file_sources['network']}). Energy is the radio's."
        )


def _figures(unit: Unit) -> Iterator[tuple[str, Figure, str]]:
    yield "threads", unit.threads, ""
    yield "speed-up exponent with threads", unit.thread_scaling, ""
    for precision, figure in unit.peak_gmacs.items():
        yield f"peak {precision}", figure, "GMAC/s"
    yield "memory bandwidth", unit.bandwidth_gb_s, "GB/s"
    yield "outputs at half of the peak, per thread", unit.half_outputs, ""
    yield "power at rest", unit.idle_w, "W"
    for precision, figure in unit.pj_per_mac.items():
        yield f"energy of a multiply-accumulate, {precision}", figure, "pJ"
    yield "energy of a byte", unit.pj_per_byte, "pJ"
    for runtime, entry in unit.runtimes.items():
        yield f"{runtime}: launch of a kernel", entry.launch_us, "us"
        yield f"{runtime}: overhead of an inference", entry.overhead_ms, "ms"
        yield f"{runtime}: memory of its own", entry.memory_bytes, "B"


def _shared_lines() -> Iterator[str]:
    yield "| core | fp32 | fp16 | int8 | has | ordinary code | pJ a cycle | source |"
    yield "|---|---|---|---|---|---|---|---|"
    for key, core in core_types().items():
        half = f"{core.fp16:g}" if core.fp16 else ""
        has = ", ".join(core.features)
        yield f"| {key} | {core.fp32:g} | {half} | {core.int8:g} | {has} | {core.scalar:g} | {core.pj_per_cycle:g} | {core.source} |"
    yield ""
    yield "| runtime | computes | a kernel | an inference | memory | source |"
    yield "|---|---|---|---|---|---|"
    for key, runtime in runtime_types().items():
        cycles = runtime.launch_kcycles is not None
        launch = f"{runtime.launch_kcycles:g} thousand cycles" if cycles else f"{runtime.launch_us:g} us"
        overhead = f"{runtime.overhead_kcycles:g} thousand cycles" if cycles else f"{runtime.overhead_ms:g} ms"
        yield f"| {key} | {', '.join(runtime.computes)} | {launch} | {overhead} | {runtime.memory_mb:g} MB | {runtime.source} |"
    yield ""
    yield "| class | limit | time constant | asleep | to wake | clocks | source |"
    yield "|---|---|---|---|---|---|---|"
    for key, shared in class_tables().classes.items():
        clocks = ", ".join(f"{mode} {share:.0%}" for mode, share in shared.modes.items())
        heat, sleep = shared.heat, shared.sleep
        yield f"| {key} | {heat.limit_c:g} C | {heat.time_constant_s:g} s | {sleep.sleep_w:g} W | {sleep.wake_ms:g} ms | {clocks} | {shared.source} |"


def _efficiency_lines() -> Iterator[str]:
    for key, table in efficiencies().items():
        yield f"**{key}** ({table.source})"
        yield ""
        classes = list(next(iter(table.compute.values())))
        yield f"| precision | {' | '.join(classes)} |"
        yield "|---" * (len(classes) + 1) + "|"
        for precision, row in table.compute.items():
            yield f"| {precision} | {' | '.join(f'{row[c]:g}' for c in classes)} |"
        yield ""
        yield "Of the bandwidth: " + ", ".join(f"{c} {v:g}" for c, v in table.bandwidth.items()) + "."
        yield ""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown(), encoding="utf-8")
