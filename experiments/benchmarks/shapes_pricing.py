"""How fast are candidates priced? Random ones of BERT-base, on ten devices, all at once.

    python experiments/benchmarks/shapes_pricing.py [--candidates 10000] [--repetitions 3] [--seed 0]

A candidate has its own width of every layer's feed-forward and heads, and its own bits of every weight and activation. Parameters, MACs, stored bytes and,
on each device, latency, peak memory and energy are computed; for a sample they are compared with the prices of each candidate alone. Exit status 1 where one
differs, or where the median takes more CPU seconds (on one thread) than the limit.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from tracing import bert  # noqa: E402 - found beside this file

from compressors.graph import ModelGraph, Shapes, trace  # noqa: E402
from compressors.targets import Target, target_named  # noqa: E402
from evaluators.devices import device_named  # noqa: E402
from evaluators.devices.device_model import DeviceModel  # noqa: E402
from evaluators.devices.names import THIS_HOST, device_names, units_of  # noqa: E402
from search.preparing import Prepared  # noqa: E402

LIMIT, SAMPLE, TOLERANCE = 5.0, 50, 1e-12


def random_shapes(graph: ModelGraph, count: int, rng: np.random.Generator) -> Shapes:
    """Widths of the feed-forwards and the heads, and bits, all drawn for themselves."""
    widths = np.repeat(graph.baseline().widths, count, axis=0)
    for i, axis in enumerate(graph.axes):
        if axis.fixed is None and axis.kind in ("ffn", "heads"):
            widths[:, i] = rng.integers(1, axis.size + 1, count)
    bits, activations = (rng.choice(accepted, (count, len(graph.sites))) for accepted in ([4, 8, 16, 32], [8, 16, 32]))
    granularity = np.zeros_like(bits)
    return Shapes(widths, bits, activations, granularity, np.ones_like(bits, dtype=np.bool_), rng.random(count) < 0.5)


def prices(graph: ModelGraph, target: Target, devices: Mapping[str, DeviceModel], shapes: Shapes) -> dict[str, NDArray[Any]]:
    """Each metric of each candidate, ``[candidates]``."""
    found: dict[str, NDArray[Any]] = {
        "parameters": graph.count_parameters(shapes),
        "macs": graph.count_macs(shapes),
        "size_bytes": target.stored_bytes(graph, shapes),
    }
    for key, device in devices.items():
        found |= {f"{name}@{key}": cost.value for name, cost in device.cost(graph, shapes).items()}
    return found


def differing(graph: ModelGraph, target: Target, devices: Mapping[str, DeviceModel], shapes: Shapes, together: dict[str, NDArray[Any]], rows: Any) -> list[str]:
    """Prices of single candidates that are not those of the batch: counts exactly, the rest to the last digits, in which sums depend on their order."""
    problems = []
    for row in rows:
        for name, alone in prices(graph, target, devices, shapes[row : row + 1]).items():
            tolerance = 0.0 if np.issubdtype(alone.dtype, np.integer) else TOLERANCE
            if not np.allclose(together[name][row], alone[0], rtol=tolerance, atol=0):
                problems.append(f"candidate {row}: {name} is {together[name][row]!r} among others, {alone[0]!r} alone")
    return problems


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with torch.device("meta"):
        model, inputs = bert()
    graph, target = trace(model.eval(), inputs), target_named("onnxruntime")
    names = [name for name in device_names() if name != THIS_HOST and any("onnxruntime" in runtimes for runtimes in units_of(name).values())][: args.devices]
    devices = {f"{name}/onnxruntime": device_named(f"{name}/onnxruntime") for name in names}
    rng = np.random.default_rng(args.seed)
    times: dict[str, list[tuple[float, float]]] = {"arrays": [], "estimates": []}
    for _ in range(args.repetitions):
        # Drawn anew: tables of candidates that were priced before are kept.
        for part, seconds in times.items():
            shapes = random_shapes(graph, args.candidates, rng)
            wall, cpu = time.perf_counter(), time.process_time()
            if part == "arrays":
                together = prices(graph, target, devices, shapes)
            else:
                Prepared.costs(SimpleNamespace(graph=graph, target=target, devices=devices), shapes)  # type: ignore[arg-type]
            seconds.append((time.process_time() - cpu, time.perf_counter() - wall))
            if part == "arrays":
                sample = rng.choice(args.candidates, min(SAMPLE, args.candidates), replace=False)
                problems = differing(graph, target, devices, shapes, together, sample)
                print("\n".join(problems[:10]) or f"{len(sample)} candidates priced alone: {len(together)} metrics each, all equal")
                if problems:
                    return 1
    varied = sum(axis.fixed is None and axis.kind in ("ffn", "heads") for axis in graph.axes)
    print(f"\n{args.candidates:,} candidates of BERT-base: {varied} widths and {len(graph.sites)} sites each, on {len(devices)} devices")
    print("| | CPU s: median (range) | wall s |\n|---|---|---|")
    for part, name in (("arrays", "arrays of each metric"), ("estimates", "`Prepared.costs`: an estimate with interval and tier for each")):
        cpu_s, wall_s = (sorted(found[i] for found in times[part]) for i in range(2))
        print(f"| {name} | {' | '.join(f'{statistics.median(v):.2f} ({v[0]:.2f}-{v[-1]:.2f})' for v in (cpu_s, wall_s))} |")
    return 0 if statistics.median(cpu for cpu, _ in times["arrays"]) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
