"""Runs a ladder: several models for one job, the fastest first, of which each request takes the best that its conditions leave time for.

Needs Python 3.9 or later, numpy, the models' runtime and the ``bench.py`` beside this file. From Python::

    ladder = Ladder(Path("ladder"))
    ladder.run({"input_ids": ids, "attention_mask": mask}, latency_ms=5.0)  # logits; ladder.rungs[ladder.last]["id"] says of which model

What is known of a model's latency is what it was promised at the workload's input size, until it has run here. It is taken to grow with the input.
A request may say

    latency_ms     what it has time for; otherwise as long as the slowest model takes for an input of the workload's size on an idle machine
    load           share of the machine that others use, 0 to 1; an inference then takes 1 / (1 - load) times as long
    temperature_c  of the device: from ``warm_c`` on, each ``step_c`` degrees are one rung down, before the device slows itself down

    python ladder.py --latency-ms 5 [--load auto] [--temperature-c auto] [--size N]   # which rung that is, and why
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

LADDER = "ladder.json"
LADDER_VERSION = 1
_LEAST_IDLE = 0.02
_SHORTEST, _LONGEST = 0.9, 1.3
_MEMORY = 0.1
"""Weight of the latest run in what is known of this machine's speed."""


class Ladder:
    """The models of a ladder.

    Args:
        folder: with ``ladder.json``.
        models: what runs each rung, fastest first: takes inputs, returns logits. None: the models of the folder, opened by its ``bench.py``.
        threads, provider: see ``bench.py``.

    Attributes:
        rungs: what ``ladder.json`` says of each, fastest first.
        speeds: how many times longer than promised each rung takes here, by its position; of those that have run.
        last: which rung ran last.

    Raises:
        ValueError: a ladder of another version.
    """

    def __init__(self, folder: Path, models: list[Any] | None = None, *, threads: int = 1, provider: str = "cpu") -> None:
        self.plan = json.loads((folder / LADDER).read_text(encoding="utf-8"))
        if self.plan["ladder_version"] != LADDER_VERSION:
            raise ValueError(f"{LADDER} has ladder_version {self.plan['ladder_version']!r}; accepted: {LADDER_VERSION}")
        self.rungs: list[dict[str, Any]] = self.plan["rungs"]
        self.models = [_opened(folder, rung, threads, provider) for rung in self.rungs] if models is None else models
        self.speeds: dict[int, float] = {}
        self.last = len(self.rungs) - 1
        self._ready: set[int] = set()

    def latency_ms(self, rung: int, size: int | None = None) -> float:
        """What a model is believed to take here, for an input of so many tokens or pixels in all."""
        others = math.exp(float(np.mean(np.log(list(self.speeds.values()))))) if self.speeds else 1.0
        return float(self.rungs[rung]["latency_ms"]) * self.speeds.get(rung, others) * (1.0 if size is None else size / self.plan["size"])

    def pick(self, latency_ms: float | None = None, size: int | None = None, load: float = 0.0, temperature_c: float | None = None) -> int:
        """The slowest rung, which is the best, that the conditions leave time for; the fastest where none does.

        Raises:
            ValueError: a load outside [0, 1], or a budget that is not positive.
        """
        if not 0 <= load <= 1:
            raise ValueError(f"load {load!r} is no share; accepted: 0 to 1")
        if latency_ms is not None and not latency_ms > 0:
            raise ValueError(f"latency_ms {latency_ms!r} is no time; accepted: more than 0")
        budget = self.latency_ms(len(self.rungs) - 1) if latency_ms is None else latency_ms
        slower = 1 / max(1 - load, _LEAST_IDLE)
        fitting = [i for i in range(len(self.rungs)) if self.latency_ms(i, size) * slower <= budget * (1 + 1e-9)]
        best = max(fitting, default=0)
        warm, step = self.plan["warm_c"], self.plan["step_c"]
        if temperature_c is not None and temperature_c > warm:
            best -= math.ceil((temperature_c - warm) / step)
        return max(best, 0)

    def run(self, inputs: dict[str, Any], *, latency_ms: float | None = None, load: float = 0.0, temperature_c: float | None = None) -> Any:
        """Logits of the rung that fits."""
        size = size_of(inputs)
        self.last = self.pick(latency_ms, size, load, temperature_c)
        start = time.perf_counter()
        logits = self.models[self.last].run(inputs)
        self.learn(self.last, 1e3 * (time.perf_counter() - start), size, load)
        return logits

    def learn(self, rung: int, ms: float, size: int, load: float = 0.0) -> None:
        """How long a run took."""
        found = ms * max(1 - load, _LEAST_IDLE) / (self.rungs[rung]["latency_ms"] * size / self.plan["size"])
        # The first run of a model is none to learn from: it makes ready.
        if rung in self._ready:
            before = self.speeds.get(rung, found)
            self.speeds[rung] = before * (found / before) ** _MEMORY
        self._ready.add(rung)


def size_of(inputs: dict[str, Any]) -> int:
    """Tokens, or pixels, of a batch: its largest input without channels."""
    return max(int(np.prod(value.shape if value.ndim < 4 else (value.shape[0], *sorted(value.shape[1:])[1:]))) for value in inputs.values())


def current_load() -> float:
    """The share of this machine's processors that was busy in the last minute."""
    return min(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0) if hasattr(os, "getloadavg") else 0.0


def current_temperature() -> float | None:
    """Of the hottest zone that Linux knows, in degrees Celsius; None where it knows none."""
    zones = [int(path.read_text()) / 1000 for path in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    return max(zones, default=None)


def _opened(folder: Path, rung: dict[str, Any], threads: int, provider: str) -> Any:
    place = folder / str(rung["folder"])
    bench = _bench(folder)
    return bench.open_model(bench.default_model(place), threads, provider, alone=False)


def _bench(folder: Path) -> Any:
    """``bench.py``: that of this installation, or the one beside this file."""
    try:
        return importlib.import_module("search.bench")
    except ImportError:
        sys.path.insert(0, str(folder.resolve()))
        return importlib.import_module("bench")


def budgets_ms(ladder: Ladder, shares: Any) -> Any:
    """Budgets between what the fastest model is believed to take (at a share of 0: a little less) and what the slowest is (at 1: a little more), by ratio."""
    times = [ladder.latency_ms(i) for i in range(len(ladder.rungs))]
    low, high = math.log(_SHORTEST * min(times)), math.log(_LONGEST * max(times))
    return np.exp(low + shares * (high - low))


def answered(ladder: Ladder, requests: Path, answers: Path) -> None:
    """Runs requests one by one: inputs ``[requests, ...]`` and ``budget`` ``[requests]``, see ``budgets_ms``."""
    with np.load(requests, allow_pickle=False) as stored:
        data = {name: stored[name] for name in stored.files}
    shares = data.pop("budget")
    count = len(shares)
    warm = {name: value[:1] for name, value in data.items()}
    for _ in range(10):
        for i, model in enumerate(ladder.models):
            start = time.perf_counter()
            model.run(warm)
            ladder.learn(i, 1e3 * (time.perf_counter() - start), size_of(warm))
    budgets = budgets_ms(ladder, shares)
    logits, rungs, times = [], np.zeros(count, dtype=np.int64), np.zeros(count)
    for i in range(count):
        one = {name: value[i : i + 1] for name, value in data.items()}
        start = time.perf_counter()
        logits.append(ladder.run(one, latency_ms=float(budgets[i])))
        times[i], rungs[i] = 1e3 * (time.perf_counter() - start), ladder.last
    np.savez(answers, logits=np.concatenate(logits), rung=rungs, ms=times, budget_ms=budgets)


def main() -> None:
    """See the module."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Which model of the ladder a request takes.")
    parser.add_argument("--folder", type=Path, default=here)
    parser.add_argument("--latency-ms", type=float)
    parser.add_argument("--size", type=int, help="tokens or pixels of the input (default: the workload's)")
    parser.add_argument("--load", default="0", help="share of the machine that others use, or auto")
    parser.add_argument("--temperature-c", help="of the device, or auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--provider", default="cpu")
    parser.add_argument("--requests", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--answers", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        if args.requests:
            answered(Ladder(args.folder, threads=args.threads, provider=args.provider), args.requests, args.answers)
            print("{}")
            return
        ladder = Ladder(args.folder, models=[])
        load = current_load() if args.load == "auto" else float(args.load)
        heat = current_temperature() if args.temperature_c == "auto" else None if args.temperature_c is None else float(args.temperature_c)
        rung = ladder.pick(args.latency_ms, args.size, load, heat)
        believed = ladder.latency_ms(rung, args.size)
        print(json.dumps({**ladder.rungs[rung], "believed_ms": believed, "load": load, "temperature_c": heat}, indent=1))
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
