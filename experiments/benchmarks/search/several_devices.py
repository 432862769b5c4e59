"""One search for several devices: what should it trade? Mean share of hypervolume over the devices' own fronts (quality, latency there, size).

On the synthetic problem, with devices that differ in where their time goes and in what bits are worth to them. ``joint``: every latency is a known objective;
``mean``: their geometric mean is the one known latency; ``turns``: a search for each device, told of everything, in turns; ``first``: the first device alone.
Shares are of the best that all runs of the same devices hold together; quality counts without noise.

python experiments/benchmarks/search/several_devices.py [--devices 2 4] [--seeds 3] [--evaluations 100]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import compression_problem as problem  # found beside this file

from compareto import optimizer
from search.pareto import hypervolume

Candidate = dict[str, Any]
Costs = Callable[[list[Candidate]], dict[str, np.ndarray]]
_rng = np.random.default_rng(20261122)
LATENCIES = [(_rng.dirichlet(np.full(problem.GROUPS, 1.0)), _rng.uniform(0.35, 1.0, 2), _rng.uniform(0.0, 0.5)) for _ in range(6)]
"""Of each device: the share of the time that each group takes, what 8-bit activations and weights of at most 4 bits are worth, how much waits for weights."""


def latencies(candidates: Sequence[Candidate], devices: int) -> dict[str, np.ndarray]:
    """Binary logarithms of shares of the uncompressed network's latency, by device."""
    kept = 1 - np.array([[c[f"prune_{i}"] for i in range(problem.GROUPS)] for c in candidates])
    both = kept * np.column_stack([np.ones(len(kept)), kept[:, :-1]])
    bits = np.array([c["weight_bits"] for c in candidates], dtype=float)
    integer = np.array([c["activation_bits"] for c in candidates]) < 16
    found = {}
    for d, (shares, (eight, four), waiting) in enumerate(LATENCIES[:devices]):
        factor = np.where(integer, eight, 1.0) * np.where(integer & (bits <= 4), four, 1.0)
        found[f"latency_{d}"] = np.log2(0.95 * both @ shares * ((1 - waiting) * factor + waiting * bits / 16) + 0.05)
    return found


def sizes(candidates: Sequence[Candidate]) -> np.ndarray:
    """Binary logarithms of shares of the uncompressed network's bytes."""
    return problem.costs(candidates)["size"]


def points(candidates: Sequence[Candidate], device: int) -> np.ndarray:
    """``[candidates, 3]``: latency there, size, negated quality without noise."""
    return np.column_stack([latencies(candidates, device + 1)[f"latency_{device}"], sizes(candidates), -problem.quality(candidates)])


def run(strategy: str, devices: int, evaluations: int, seed: int) -> list[Candidate]:
    """The candidates of one search, in order."""

    def costs_of(names: Sequence[str]) -> Costs:
        return lambda cs: {**{n: v for n, v in latencies(cs, devices).items() if n in names}, "size": sizes(cs)}

    def mean(cs: list[Candidate]) -> dict[str, np.ndarray]:
        return {"latency": np.mean(list(latencies(cs, devices).values()), axis=0), "size": sizes(cs)}

    every = [f"latency_{d}" for d in range(devices)]
    problems = {"joint": [costs_of(every)], "mean": [mean], "turns": [costs_of([name]) for name in every], "first": [costs_of(every[:1])]}[strategy]
    searchers = [optimizer("auto", problem.SPACE, costs, seed=seed + 100 * i) for i, costs in enumerate(problems)]
    tried: list[Candidate] = []
    for i in range(evaluations):
        (candidate,) = searchers[i % len(searchers)].ask(1)
        for searcher in searchers:
            searcher.tell(candidate, problem.observed(candidate, seed), problem.NOISE)
        tried.append(candidate)
    return tried


def main() -> None:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=100)
    args = parser.parse_args()
    strategies = ("joint", "mean", "turns", "first")
    at = [n for n in (30, 60, 100, 200) if n <= args.evaluations]
    for devices in args.devices:
        started, runs = time.perf_counter(), {}
        for seed in range(args.seeds):
            for strategy in strategies:
                before = time.perf_counter()
                runs[strategy, seed] = run(strategy, devices, args.evaluations, seed), time.perf_counter() - before
        everything = [c for candidates, _ in runs.values() for c in candidates]
        best = [hypervolume(points(everything, d), problem.REFERENCE) for d in range(devices)]
        print(f"{devices} devices, {args.seeds} seeds ({time.perf_counter() - started:.0f} s)")
        for strategy in strategies:
            rows = []
            for seed in range(args.seeds):
                candidates = runs[strategy, seed][0]
                rows.append([np.mean([hypervolume(points(candidates[:n], d), problem.REFERENCE) / best[d] for d in range(devices)]) for n in at])
            spread = "  ".join(f"{n}: {np.mean(c):.3f} ({min(c):.3f}-{max(c):.3f})" for n, c in zip(at, np.array(rows).T, strict=True))
            print(f"  {strategy:6} {spread}  {np.mean([runs[strategy, s][1] for s in range(args.seeds)]) / args.evaluations:.2f} s a suggestion", flush=True)


if __name__ == "__main__":
    main()
