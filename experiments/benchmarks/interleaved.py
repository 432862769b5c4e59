"""Latency of several model files on this machine, taking turns in one process, so that a ratio does not depend on what else the machine does.

    python experiments/benchmarks/interleaved.py MODEL [MODEL ...] --inputs INPUTS.npz [--threads 2] [--seconds 2]

prints JSON: the median and 90th percentile of each in milliseconds. ``compare`` does so in several processes, one after the other.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from search.bench import open_model, statistics, timed  # noqa: E402

PROCESSES = 5


@dataclass(frozen=True)
class Latency:
    """Of one model, in milliseconds: medians of several processes."""

    medians: tuple[float, ...]
    p90: float

    @property
    def median(self) -> float:
        return float(np.median(self.medians))

    def ratio(self, other: "Latency") -> tuple[float, float, float]:
        """Median, least and largest ratio to another model over the processes in which both took turns."""
        ratios = [a / b for a, b in zip(self.medians, other.medians, strict=True)]
        return float(np.median(ratios)), min(ratios), max(ratios)


def compare(
    models: Mapping[str, Path],
    inputs: Mapping[str, Any],
    folder: Path,
    threads: int = 2,
    seconds: float = 2.0,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Latency]:
    """Latency of each model; ``folder`` gets the files that hold the inputs, ``own`` of those models that take others."""
    paths = []
    for i, name in enumerate(models):
        paths.append(folder / f"inputs-{i}.npz")
        np.savez(paths[-1], **(own or {}).get(name, inputs))
    given = ["--inputs", *map(str, paths)]
    command = [sys.executable, __file__, *map(str, models.values()), *given, "--threads", str(threads), "--seconds", str(seconds)]
    runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]) for _ in range(PROCESSES)]
    return {name: Latency(tuple(run[i]["median"] for run in runs), float(np.median([run[i]["p90"] for run in runs]))) for i, name in enumerate(models)}


def said(ratio: tuple[float, float, float]) -> str:
    return "{:.2f}x ({:.2f}-{:.2f})".format(*ratio)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--inputs", nargs="+", type=Path, required=True, help="of all models, or one file for each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    if len(args.inputs) not in (1, len(args.models)):
        parser.error(f"--inputs: {len(args.inputs)} files for {len(args.models)} models; accepted: one, or one for each")
    given = []
    for path in args.inputs:
        with np.load(path, allow_pickle=False) as stored:
            given.append({name: stored[name] for name in stored.files})
    opened = [open_model(path, args.threads, alone=False) for path in args.models]
    inputs = given * (1 if len(given) == len(opened) else len(opened))
    times = timed([lambda model=model, own=own: model.run(own) for model, own in zip(opened, inputs, strict=True)], args.seconds)
    print(json.dumps([statistics(t) for t in times]))


if __name__ == "__main__":
    main()
