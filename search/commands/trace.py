"""``compareto trace``: the model as compareto sees it."""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from search.commands.arguments import Subparsers, add_command, add_experiment

if TYPE_CHECKING:
    from rich.console import Console

    from search.bit_sensitivity import BitSensitivity
    from search.experiment import Experiment
    from search.sensitivity import Cut, Sensitivity

__all__ = ["register", "run"]

_KERNELS = 8
_WIDTH = 140
_WORTH_SAYING = 0.005
"""Share of a device's latency."""


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(
        subparsers, "trace", run, "show prunable axes, blocks, quantization sites and the cost on each device", "compareto trace quickstart --sensitivity"
    )
    add_experiment(parser)
    parser.add_argument("--sensitivity", action="store_true", help="cut every axis and quantize every weight alone, without recovery, and show what it costs")
    parser.add_argument("--depth", type=_depth, metavar="N", help="add up over N components of module names instead of the model's own blocks")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json has every axis, site and kernel")


def run(args: argparse.Namespace) -> int:
    """Load, trace, price, print."""
    import json

    from compressors.targets import target_named
    from evaluators.devices import device_named
    from search.description import describe
    from search.experiment import Experiment
    from search.loading import load_experiment

    experiment = Experiment.load(args.experiment, args.overrides)
    if args.sensitivity:
        graph, example_inputs, sensitivity, bits = _profiled(experiment)
    else:
        loaded = load_experiment(experiment)
        graph, example_inputs, sensitivity, bits = loaded.graph, loaded.task.example_inputs, None, None
    devices = [device_named(key, requests_per_hour=experiment.workload.requests_per_hour) for key in experiment.devices]
    described = describe(graph, example_inputs, devices, target_named(experiment.target), args.depth)
    if args.format == "json":
        profiles = {"sensitivity": sensitivity, "bit_sensitivity": bits}
        print(json.dumps({**described, **{name: found.to_plain() for name, found in profiles.items() if found is not None}}, indent=1))
    else:
        _show(described)
        if sensitivity is not None:
            _show_sensitivity(sensitivity, described)
        if bits is not None:
            _show_bits(bits)
    return 0


def _depth(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not accepted; accepted: a whole number of at least 1")
    return int(text)


def _profiled(experiment: Experiment) -> tuple[Any, Any, Sensitivity, BitSensitivity]:
    """Graph and inputs, as they are without a profile, and the profiles; says on stderr how far they are."""
    from search.bit_sensitivity import bit_profile, first_quantization
    from search.cache import Cache
    from search.preparing import prepare
    from search.sensitivity import first_criterion, profile
    from search.stages import StageRunner

    with _saying() as say:
        cache = Cache()
        prepared = prepare(experiment, cache, say)
        runner = StageRunner(prepared, cache, say)
        found = profile(runner, first_criterion(experiment), say)
        say(f"quantizing {len(prepared.graph.sites)} weights, one at a time")
        bits = bit_profile(runner, first_quantization(experiment))
    return prepared.graph, prepared.task.example_inputs, found, bits


@contextmanager
def _saying() -> Iterator[Callable[[str], None]]:
    """Receives lines: the last one stands below a spinner in a terminal, each is printed elsewhere."""
    import sys

    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stderr)
    if not console.is_terminal:
        yield lambda line: console.print(Text(line), soft_wrap=True)
        return
    with console.status("") as status:
        yield lambda line: status.update(Text(line))


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    return console if console.is_terminal else Console(highlight=False, markup=False, width=_WIDTH)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Columns whose name ends in ``>`` are figures: aligned right, and never broken within one. Nothing where there are no rows."""
    from rich.table import Table

    if not rows:
        return
    console = _console()
    console.print(title, style="bold")
    cells = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False)
    for i, column in enumerate(columns):
        longest = max(len(word) for row in cells for word in (row[i].split() or [""]))
        if column.endswith(">"):
            table.add_column(column.rstrip(">"), justify="right", min_width=longest)
        else:
            table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*row)
    # A terminal that is too narrow for the figures wraps the lines.
    console.print(table, crop=False)
    console.print()


def _inputs(program: dict[str, Any], shapes: Mapping[str, str]) -> str:
    """A cache is many tensors, and one input."""
    return ", ".join(dict.fromkeys(shapes.get(name, re.sub(r"^past_key_values_.*", "past_key_values", name)) for name in program["inputs"]))


def _show(described: dict[str, Any]) -> None:
    console = _console()
    console.print(
        f"{described['parameters']:,} parameters, {described['macs']:,} MACs, {described['bytes']:,} bytes in {described['target']}; "
        f"trace {described['fingerprint']}\n"
    )
    inputs = {name: f"{name} {'x'.join(map(str, i['shape']))} {i['dtype']}" for name, i in described["inputs"].items()}
    rows = [(p["name"], _inputs(p, inputs if p["name"] == "forward" else {}), p["operators"], p["kernels"], p["macs"]) for p in described["programs"]]
    _table("Programs", ("program", "inputs", "operators>", f"kernels in {described['target']}>", "MACs>"), rows)
    alike = _alike(described)
    cut = [a for a in described["axes"] if a["fixed"] is None]
    if not cut:
        console.print("No axis can be cut.\n")
    _table("Prunable axes", ("axis", "kind", "units>", "modules>"), [(a["name"], a["kind"], a["size"], len(a["modules"])) for a in cut])
    reasons: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for axis in described["axes"]:
        if axis["fixed"] is not None:
            reasons[axis["kind"], alike(axis["fixed"])].append(axis)
    fixed = [(kind, len(axes), _range(axes), axes[0]["modules"][0] if axes[0]["modules"] else "", reason) for (kind, reason), axes in reasons.items()]
    _table("Fixed axes", ("kind", "axes>", "units>", "such as", "reason"), fixed)
    blocks = [(b["name"] or "(the model itself)", b["parameters"], b["bytes"], b["macs"]) for b in described["blocks"]]
    _table("Blocks", ("block", "parameters>", "bytes>", "MACs>"), blocks)
    sites: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for site in described["sites"]:
        sites[site["operator"]].append(site)
    found = [(operator, len(of), sum(s["elements"] for s in of)) for operator, of in sites.items()]
    _table("Quantization sites", ("operator", "sites>", "weights>"), found)
    _show_devices(described["devices"], alike)


def _alike(described: dict[str, Any]) -> Callable[[str], str]:
    """Puts ``*`` for the number of a block, so that what is said of all blocks of a stack is said once."""
    blocks = sorted((path for axis in described["axes"] if axis["kind"] == "blocks" for path in axis["modules"]), key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, blocks))})(?!\w)")
    return lambda text: pattern.sub(lambda found: f"{found[1].rpartition('.')[0]}.*".removeprefix("."), text) if blocks else text


def _range(axes: Sequence[dict[str, Any]]) -> str:
    sizes = sorted({axis["size"] for axis in axes})
    return f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,}-{sizes[-1]:,}"


def _show_devices(devices: Sequence[dict[str, Any]], alike: Callable[[str], str]) -> None:
    rows = [
        (
            d["key"],
            _figure(d["latency_ms"]),
            _figure(d["peak_memory_bytes"], 1e6),
            _figure(d["energy_mj"]),
            d["latency_ms"]["tier"],
            _bounds(d),
        )
        for d in devices
    ]
    _table("Uncompressed on each device (90 % intervals)", ("device", "latency ms>", "memory MB>", "energy mJ>", "tier", "bound by"), rows)
    telling = [(d["key"], _figure(d["ttft_ms"]), _figure(d["ms_per_token"]), _bounds(d["programs"]["decode"])) for d in devices if "ms_per_token" in d]
    _table("Generation of tokens (90 % intervals)", ("device", "first token ms>", "ms a token>", "a token is bound by"), telling)
    for device in devices:
        _show_kernels(device["key"], device, alike)
        if "decode" in device["programs"]:
            _show_kernels(f"{device['key']}, a decoding step", device["programs"]["decode"], alike)


def _bounds(described: dict[str, Any]) -> str:
    return ", ".join(f"{bound} {share:.0%}" for bound, share in described["bound_by"].items() if share >= _WORTH_SAYING)


def _show_kernels(where: str, described: dict[str, Any], alike: Callable[[str], str]) -> None:
    """Those of several blocks together; with their units where a model is placed on several."""
    placed = "units" in described
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for k in described["kernels"]:
        unit = (k.get("unit", ""),) if placed else ()
        groups[alike(k["module"]), re.sub(r"_\d+$", "", k["name"]), *unit, k["bound"]].append(k["ms"])
    slowest = sorted(groups.items(), key=lambda item: -sum(item[1]))
    total = sum(map(sum, groups.values())) or 1.0
    kernels = [(*key, len(ms), f"{sum(ms):.4g}", f"{sum(ms) / total:.1%}") for key, ms in slowest[:_KERNELS]]
    rest = f", the slowest {_KERNELS} of {len(groups)} groups" if len(groups) > _KERNELS else ""
    units = f" ({', '.join(f'{unit} {share:.0%} of the time' for unit, share in described['units'].items())})" if placed else ""
    _table(f"Kernels on {where}{rest}{units}", ("module", "operator", *(("unit",) if placed else ()), "bound by", "kernels>", "ms>", "share>"), kernels)


def _figure(estimate: dict[str, Any], unit: float = 1.0) -> str:
    return f"{estimate['value'] / unit:.3g} ({estimate['low'] / unit:.3g}-{estimate['high'] / unit:.3g})"


def _show_sensitivity(found: Sensitivity, described: dict[str, Any]) -> None:
    from search.figures import figure

    by_axis: dict[str, list[Cut]] = defaultdict(list)
    for cut in found.cuts:
        by_axis[cut.axis.name].append(cut)
    shares = [f"{cut.share:.0%}" for cut in next(iter(by_axis.values()), [])]
    accuracy = found.metric.is_accuracy
    unit = "points" if accuracy else found.metric.unit
    title = (
        f"{found.metric.name} lost{f', {unit},' if unit else ''} where one axis alone is cut by {found.criterion}, without recovery "
        f"({found.split}, {found.examples:,} examples, uncompressed {figure(found.metric, found.baseline.value)}, 90 % intervals)"
    )
    rows = [
        (
            cuts[0].axis.name,
            cuts[0].axis.kind,
            f"{cuts[0].axis.size:,} -> {', '.join(f'{cut.units:,}' for cut in cuts)}",
            *(_lost(cut, 100 if accuracy else 1) for cut in cuts),
            f"{cuts[-1].parameters / described['parameters'] - 1:.1%}",
            f"{cuts[-1].macs / max(described['macs'], 1) - 1:.1%}",
        )
        for cuts in by_axis.values()
    ]
    _table(title, ("axis", "kind", "units left>", *(f"{share} cut>" for share in shares), "parameters>", "MACs>"), rows)
    if rows:
        _console().print(f"parameters and MACs are those of the whole model at {shares[-1]}")
    for reason in dict.fromkeys(cut.reason for cut in found.cuts if cut.lost is None):
        _console().print(f"-: {reason}")


def _lost(cut: Cut, scale: float) -> str:
    if cut.lost is None:
        return "-"
    # Zero is added so that what rounds to nothing has no sign.
    value, low, high = (f"{round(scale * x, 1) + 0.0:.1f}" if scale == 100 else f"{x:.3g}" for x in (cut.lost.value, cut.lost.low, cut.lost.high))
    return f"{value} ({low}..{high})"


def _show_bits(found: BitSensitivity) -> None:
    scales = {"tensor": "one scale a tensor", "channel": "one scale a channel"}.get(str(found.granularity), f"groups of {found.granularity}")
    title = (
        f"Mean change of the outputs where one weight alone is quantized, {scales}, nearest integers "
        f"(Kullback-Leibler divergence in millinats, {found.examples:,} calibration examples, widths that {found.target} stores)"
    )
    rows = [(site.name, site.operator, site.elements, *(_millinats(site.lost, bits) for bits in found.bits)) for site in found.sites]
    _table(title, ("weight", "operator", "weights>", *(f"{bits} bits>" for bits in found.bits)), rows)


def _millinats(lost: Mapping[int, float | None], bits: int) -> str:
    value = lost.get(bits, float("nan"))
    return "not finite" if value is None else "-" if value != value else f"{1000 * value:.3g}"
