"""``docs/devices.md``: the profiles as a page. Written by ``python -m evaluators.devices.document docs/devices.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from evaluators.devices.names import units_of
from evaluators.devices.profile import Figure, Unit, efficiencies, load_profile, profile_names

__all__ = ["device_lines", "markdown"]

_INTRODUCTION = """# Devices

Generated from `evaluators/devices/profiles/*.yaml` by `python -m evaluators.devices.document docs/devices.md`; edit the profiles, not this page.

A device is written `DEVICE[.UNIT]/RUNTIME[:THREADSt]`: `raspberry-pi-5/onnxruntime`, `galaxy-s24.npu/litert`, `raspberry-pi-4/litert:1t`.
The unit may be left out where the first one listed is meant, the runtime where the device has only one or where the study's target is meant.
`this-host` is the machine at hand, with ONNX Runtime and one thread unless `:Nt` says otherwise; it is calibrated once (`compareto devices calibrate`).

A kernel costs the longer of arithmetic (MACs over the peak times the runtime's efficiency) and memory traffic, plus a launch. All profiles are
`spec-only`: latency is given with an interval of 0.4 to 2.5 times the value, peak memory 0.7 to 1.6, energy 0.2 to 5.
What is computed in a precision that the unit does not have uses the fallback listed. The kernels are those of ONNX Runtime for every runtime.
"""


def markdown() -> str:
    """The whole page."""
    parts = [_INTRODUCTION, *(f"## {name}\n\n" + "\n".join(device_lines(name)) + "\n" for name in profile_names())]
    parts.append("## Efficiencies\n\nFractions of the peaks above that a runtime reaches, by op class.\n\n" + "\n".join(_efficiency_lines()) + "\n")
    return "\n".join(parts)


def device_lines(name: str) -> Iterator[str]:
    """A device's figures with their sources, as a Markdown table per unit."""
    profile = load_profile(name)
    yield f"{profile.description}."
    yield ""
    yield f"Memory: {profile.memory_bytes.value / 1e9:g} GB ({profile.memory_bytes.source})."
    for unit_name, unit in profile.units.items():
        yield ""
        yield f"**{unit_name}**: {unit.description}; runtimes {', '.join(units_of(name)[unit_name])}"
        yield ""
        yield "| figure | value | source |"
        yield "|---|---|---|"
        for label, figure, measure in _figures(unit):
            yield f"| {label} | {figure.value:,.6g} {measure}".rstrip() + f" | {figure.source} |"
        fallbacks = [f"{runtime}: {a} as {b}" for runtime, entry in unit.runtimes.items() for a, b in entry.fallback.items()]
        if fallbacks:
            yield ""
            yield f"Fallback: {'; '.join(fallbacks)}."


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
