"""How many evaluations until a search holds 90, 95 and 97 % of what a dense reference front holds? On the synthetic problem of ``compression_problem``.

All algorithms go through ``compareto.optimizer``: the same deduplication, and none evaluates a candidate twice. Shares count the quality without noise; the
algorithms see it with noise. ``modelled`` is ours with the costs modelled as well: what knowing them is worth.

python experiments/benchmarks/search/synthetic.py [--algorithms auto modelled random nsga2 tpe gp] [--seeds 3] [--evaluations auto=200 random=1500 ...]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import compression_problem as problem  # found beside this file

from compareto import optimizer
from search.algorithms.algorithm import Known
from search.algorithms.cost_problem import CostProblem, flat_space
from search.algorithms.gaussian_process import GaussianProcess, fitted, standard
from search.algorithms.known_cost import KnownCostSearch
from search.pareto import hypervolume

RESULTS = Path(__file__).resolve().parents[3] / "build/benchmarks/search_synthetic.jsonl"
SHARES = (0.90, 0.95, 0.97)
BUDGETS = {"auto": 200, "random": 1500, "nsga2": 1500, "tpe": 300, "gp": 100, "modelled": 150}
AT = (25, 50, 100, 150, 1000, 1500)
TIMED = 20
"""The last so many suggestions, of which the slowest is reported."""


def run(name: str, evaluations: int, seed: int) -> dict[str, Any]:
    """One search: its candidates in order, and the seconds that suggestions took."""
    if name == "modelled":
        return modelled(evaluations, seed)
    searcher = optimizer(name, problem.SPACE, problem.costs, seed=seed)
    candidates: list[dict[str, Any]] = []
    seconds: list[float] = []
    for _ in range(evaluations):
        started = time.perf_counter()
        (candidate,) = searcher.ask(1)
        seconds.append(time.perf_counter() - started)
        searcher.tell(candidate, problem.observed(candidate, seed), problem.NOISE)
        candidates.append(candidate)
    return row(name, seed, candidates, seconds)


def modelled(evaluations: int, seed: int) -> dict[str, Any]:
    """The same search, told of costs only what a Gaussian process on each expects from the candidates evaluated so far."""
    space = flat_space(problem.SPACE)
    candidates: list[dict[str, Any]] = []
    models: list[GaussianProcess] = []

    def believed(points: Sequence[Any]) -> np.ndarray:
        if not models:
            return np.zeros((len(points), 2))
        features = np.array([space.encode(point) for point in points])
        return np.column_stack([model.predict(features)[0] for model in models])

    reference, scale = CostProblem(space, problem.costs, (), seed).box()
    search = KnownCostSearch(space, Known(believed, 0, 1, np.append(reference, np.nan), np.append(scale, 1.0)), seed)
    seconds = []
    thetas: list[np.ndarray] = []
    while len(candidates) < evaluations:
        started = time.perf_counter()
        if len(candidates) >= 10:
            features = np.array([space.encode(candidate) for candidate in candidates])
            columns, exact = list(problem.costs(candidates).values()), np.zeros(len(candidates))
            if len(candidates) % 5 == 0:
                thetas = [fitted(features, column, exact) for column in columns]
            models = [GaussianProcess(features, column, exact, theta, *standard(column)) for column, theta in zip(columns, thetas, strict=True)]
        candidate = search.ask()
        seconds.append(time.perf_counter() - started)
        search.tell(candidate, [problem.observed(candidate, seed)], problem.NOISE)
        candidates.append(candidate)
    return row("modelled", seed, candidates, seconds)


def row(name: str, seed: int, candidates: Sequence[dict[str, Any]], seconds: Sequence[float]) -> dict[str, Any]:
    """What is kept of a search."""
    held = {str(share): needed(candidates, share) for share in SHARES}
    curve = {str(n): float(problem.share(candidates[:n])) for n in AT if n <= len(candidates)}
    return {"algorithm": name, "seed": seed, "evaluations": len(candidates), "needed": held, "curve": curve, "seconds": max(seconds[-TIMED:])}


def needed(candidates: Sequence[dict[str, Any]], share: float) -> int | None:
    """The fewest first candidates that hold this share of the reference hypervolume; None where all of them do not."""
    if problem.share(candidates) < share:
        return None
    low, high = 0, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if problem.share(candidates[:middle]) >= share else (middle, high)
    return high


def oracle() -> list[int | None]:
    """Evaluations that a greedy oracle needs, which knows the front."""
    total, points = problem.reference_front()
    volumes = [hypervolume(points[: n + 1], problem.REFERENCE) / total for n in range(len(points))]
    return [next((n + 1 for n, volume in enumerate(volumes) if volume >= share), None) for share in SHARES]


def quartiles(values: Sequence[int | None], budget: int) -> str:
    """Median and quartiles; a search that did not get there counts as longer than its budget."""
    ranked = np.sort([np.inf if v is None else v for v in values])
    ends = [float(np.quantile(ranked, q, method="higher")) for q in (0.5, 0.25, 0.75)]
    median, low, high = (f"> {budget}" if np.isinf(v) else f"{v:.0f}" for v in ends)
    return median if len(values) < 2 or median == low == high else f"{median} ({low} to {high})"


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| algorithm | seeds | 90 % | 95 % | 97 % | share at 50 | at 100 | at the end | slowest late suggestion |"
    yield "|---|---|---|---|---|---|---|---|---|"
    counts = oracle()
    yield "| oracle | | " + " | ".join(str(n) for n in counts) + " | | | | |"
    for name in dict.fromkeys(r["algorithm"] for r in rows):
        mine = [r for r in rows if r["algorithm"] == name]
        budget = min(r["evaluations"] for r in mine)
        held = [quartiles([r["needed"][str(share)] for r in mine], budget) for share in SHARES]
        at = [f"{np.median([r['curve'][n] for r in mine if n in r['curve']]):.3f}" if any(n in r["curve"] for r in mine) else "-" for n in ("50", "100")]
        end = f"{np.median([list(r['curve'].values())[-1] for r in mine]):.3f} ({list(mine[0]['curve'])[-1]})"
        yield "| " + " | ".join([name, str(len(mine)), *held, *at, end, f"{max(r['seconds'] for r in mine):.2f} s"]) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing in the file of results and print the table; 0 where ours holds 95 % within 150 evaluations, in the median."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=list(BUDGETS), default=["auto", "random", "nsga2", "tpe", "gp"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", nargs="*", default=[], metavar="ALGORITHM=N", help=f"instead of {BUDGETS}")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(arguments)
    budgets = BUDGETS | {name: int(count) for name, _, count in (text.partition("=") for text in chosen.evaluations)}
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    stored = [json.loads(line) for line in chosen.results.read_text().splitlines()] if chosen.results.exists() else []
    rows = []
    for seed in range(chosen.seeds):
        for name in chosen.algorithms:
            found = next((r for r in stored if (r["algorithm"], r["seed"], r["evaluations"]) == (name, seed, budgets[name])), None)
            if found is None:
                found = run(name, budgets[name], seed)
                with chosen.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(f"{name}, seed {seed}: {found['needed']}, {found['curve']}", file=sys.stderr, flush=True)
            rows.append(found)
    print("\n".join(table(sorted(rows, key=lambda r: chosen.algorithms.index(r["algorithm"])))))
    ours = [r["needed"]["0.95"] for r in rows if r["algorithm"] == "auto"]
    return 0 if not ours or np.median([np.inf if n is None else n for n in ours]) <= 150 else 1


if __name__ == "__main__":
    sys.exit(main())
