"""``compareto trace``: the model as compareto sees it."""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

from search.commands.arguments import Subparsers, add_command, add_experiment

__all__ = ["register", "run"]

_KERNELS = 8


def register(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = add_command(subparsers, "trace", run, "show prunable axes, quantization sites and the cost on each device", "compareto trace quickstart --depth 1")
    add_experiment(parser)
    parser.add_argument("--depth", type=int, default=2, metavar="N", help="components of module names to add up over (default: 2)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="json has every axis, site and kernel")


def run(args: argparse.Namespace) -> int:
    """Load, trace, price, print."""
    import json

    from evaluators.devices import device_named
    from search.description import describe
    from search.experiment import Experiment
    from search.loading import load_experiment

    experiment = Experiment.load(args.experiment, args.overrides)
    loaded = load_experiment(experiment)
    described = describe(loaded.graph, loaded.task.example_inputs, [device_named(key) for key in experiment.devices], max(args.depth, 1))
    if args.format == "json":
        print(json.dumps(described, indent=1))
    else:
        _show(described)
    return 0


def _show(described: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=140)

    def show(title: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
        """Columns whose name ends in ``>`` are aligned right."""
        console.print(title, style="bold")
        table = Table(box=None, pad_edge=False)
        for column in columns.split():
            table.add_column(column.rstrip(">"), justify="right" if column.endswith(">") else "left", overflow="fold")
        for row in rows:
            table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
        console.print(table)
        console.print()

    inputs = ", ".join(f"{name} {'x'.join(map(str, i['shape']))} {i['dtype']}" for name, i in described["inputs"].items())
    console.print(f"{described['parameters']:,} parameters, {described['macs']:,} MACs for {inputs}; trace {described['fingerprint']}\n")
    cut = [a for a in described["axes"] if a["fixed"] is None]
    show("Prunable axes", "axis kind units> modules", [(a["name"], a["kind"], a["size"], len(a["modules"])) for a in cut])
    reasons: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for axis in described["axes"]:
        if axis["fixed"] is not None:
            reasons[axis["kind"], axis["fixed"]].append(axis)
    show("Fixed axes", "kind axes> such_as reason", [(kind, len(axes), axes[0]["name"], reason) for (kind, reason), axes in reasons.items()])
    sites: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for site in described["sites"]:
        sites[site["operator"]].append(site)
    show("Quantization sites", "operator sites> weights>", [(operator, len(found), sum(s["elements"] for s in found)) for operator, found in sites.items()])
    show("Modules", "module parameters> MACs>", [(m["name"] or "(model)", m["parameters"], m["macs"]) for m in described["modules"]])
    show(
        "Uncompressed on each device (90 % intervals)",
        "device latency_ms> memory_MB> energy_mJ> tier bound_by",
        [
            (
                d["key"],
                _figure(d["latency_ms"]),
                _figure(d["peak_memory_bytes"], 1e6),
                _figure(d["energy_mj"]),
                d["latency_ms"]["tier"],
                ", ".join(f"{bound} {share:.0%}" for bound, share in d["bound_by"].items()),
            )
            for d in described["devices"]
        ],
    )
    for device in described["devices"]:
        kernels = device["kernels"]
        rows = [(k["name"], k["bound"], f"{k['ms']:.4g}") for k in kernels[:_KERNELS]]
        show(f"Slowest {len(rows)} of {len(kernels)} kernels on {device['key']}", "kernel bound_by ms>", rows)


def _figure(estimate: dict[str, Any], unit: float = 1.0) -> str:
    return f"{estimate['value'] / unit:.3g} ({estimate['low'] / unit:.3g}-{estimate['high'] / unit:.3g})"
