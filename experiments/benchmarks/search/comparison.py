"""Searches side by side on one problem whose reference front is known: evaluations and cost until they hold 90, 95 and 97 % of its hypervolume.

All go through ``compareto.optimizer``: the same deduplication, and none evaluates a candidate twice. The names of algorithms, and of ablations of ours:
``auto``, ``random``, ``nsga2``, ``tpe``, ``gp`` (Optuna's); ``modelled``, told of costs only what a Gaussian process on each expects; ``stages``, which takes
cheap variants of what was trained; ``promotion``, which stops trainings after a part (``random promotion``: of random points). Runs
are kept in a file of lines and not repeated.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compareto import optimizer
from search.algorithms.algorithm import Known, point_key
from search.algorithms.cost_problem import CostProblem, flat_space
from search.algorithms.gaussian_process import GaussianProcess, fitted, standard
from search.algorithms.known_cost import KnownCostSearch
from search.promotion import Promotion

__all__ = ["SHARES", "Problem", "compare", "median"]

Candidate = dict[str, Any]
SHARES = (0.90, 0.95, 0.97)
AT = (25, 50, 100, 150, 300, 500, 1000, 1500)
VARIANT = 0.1
"""What a variant costs whose training was done before, in full trainings; as in ``search.budget``."""
TIMED = 20
"""The last so many suggestions, of which the slowest is reported."""
BUILD = Path(__file__).resolve().parents[3] / "build/benchmarks"


@dataclass(frozen=True)
class Problem:
    """What searches are compared on.

    Attributes:
        name: of the file of results.
        space: as ``compareto.optimizer`` takes it.
        costs: of candidates by name, smaller is better.
        observe: quality of a candidate, larger is better, with the noise of a seed.
        noise: its standard deviation, None where it is not known.
        share: of the reference hypervolume that some candidates hold.
        trained: names of the dimensions that a training depends on; the others are late.
        oracle: evaluations that a greedy oracle needs for each of ``SHARES``.
        budgets: evaluations of each algorithm.
        part: the part of a training after which ``after_part`` tells the quality; None where nothing is known of parts.
        after_part: quality of a candidate there.
        constraints: as ``compareto.optimizer`` takes them.
    """

    name: str
    space: dict[str, Any]
    costs: Callable[[Sequence[Candidate]], dict[str, np.ndarray]]
    observe: Callable[[Candidate, int], float]
    noise: float | None
    share: Callable[[Sequence[Candidate]], float]
    trained: tuple[str, ...]
    oracle: Sequence[int | None]
    budgets: dict[str, int]
    part: float | None = None
    after_part: Callable[[Candidate], float] | None = None
    constraints: tuple[str, ...] = ()

    def prefix(self, candidate: Candidate) -> str:
        """What its training depends on, as text."""
        return point_key({name: candidate[name] for name in self.trained})

    def stages(self, candidates: Sequence[Candidate]) -> list[list[tuple[str, float]]]:
        """Stages of candidates: a training and a variant."""
        return [[(self.prefix(c), 1 - VARIANT), (point_key(c), VARIANT)] for c in candidates]


def run(problem: Problem, name: str, evaluations: int, seed: int) -> dict[str, Any]:
    """One search."""
    if name == "modelled":
        return modelled(problem, evaluations, seed)
    if name == "promotion":
        return promoted(problem, evaluations, seed)
    if name == "random promotion":
        return promoted(problem, evaluations, seed, at_random=True)
    stages = problem.stages if name == "stages" else None
    searcher = optimizer("auto" if stages else name, problem.space, problem.costs, problem.constraints, seed=seed, stages=stages)
    candidates: list[Candidate] = []
    seconds: list[float] = []
    while len(candidates) < evaluations:
        started = time.perf_counter()
        found = searcher.ask(1)
        seconds.append(time.perf_counter() - started)
        if not found:
            break
        searcher.tell(found[0], problem.observe(found[0], seed), problem.noise)
        candidates += found
    return row(problem, name, seed, candidates, seconds, paid(problem, candidates))


def modelled(problem: Problem, evaluations: int, seed: int) -> dict[str, Any]:
    """The same search, told of costs only what a Gaussian process on each expects from the candidates evaluated so far."""
    space = flat_space(problem.space)
    candidates: list[Candidate] = []
    models: list[GaussianProcess] = []
    stated = CostProblem(space, problem.costs, problem.constraints, seed)
    reference, scale = stated.box()

    def believed(points: Sequence[Any]) -> np.ndarray:
        if not models or not len(points):
            return np.zeros((len(points), len(reference)))
        features = np.array([space.encode(point) for point in points])
        return np.column_stack([model.predict(features)[0] for model in models])

    search = KnownCostSearch(space, Known(believed, 0, 1, np.append(reference, -stated.floor), np.append(scale, 1.0)), seed)
    seconds: list[float] = []
    thetas: list[np.ndarray] = []
    while len(candidates) < evaluations:
        started = time.perf_counter()
        if len(candidates) >= 10:
            features = np.array([space.encode(candidate) for candidate in candidates])
            columns, exact = list(problem.costs(candidates).values()), np.zeros(len(candidates))
            if len(candidates) % 5 == 0:
                thetas = [fitted(features, column, exact) for column in columns]
            models[:] = [GaussianProcess(features, column, exact, theta, *standard(column)) for column, theta in zip(columns, thetas, strict=True)]
        candidate = search.ask()
        seconds.append(time.perf_counter() - started)
        search.tell(candidate, [problem.observe(candidate, seed)], problem.noise)
        candidates.append(candidate)
    return row(problem, "modelled", seed, candidates, seconds, paid(problem, candidates))


def promoted(problem: Problem, evaluations: int, seed: int, *, at_random: bool = False) -> dict[str, Any]:
    """The same search, or random points, of whose trainings only those go on after a part that could still reach the front; ``evaluations`` bounds what is
    spent."""
    assert problem.part is not None
    assert problem.after_part is not None
    space, promotion = flat_space(problem.space), Promotion((problem.part,))
    stopped: set[str] = set()

    def held(points: Sequence[Any]) -> np.ndarray:
        priced = np.column_stack(list(problem.costs(points).values())) if len(points) else np.zeros((0, len(reference)))
        priced[[i for i, point in enumerate(points) if point_key(point) in stopped]] = np.nan
        return priced

    stated = CostProblem(space, problem.costs, problem.constraints, seed)
    reference, scale = stated.box()
    search = KnownCostSearch(space, Known(held, 0, 1, np.append(reference, -stated.floor), np.append(scale, 1.0)), seed)
    seen: set[str] = set()
    anywhere = optimizer("random", problem.space, problem.costs, problem.constraints, seed=seed)
    candidates: list[Candidate] = []
    costs: list[float] = []
    seconds: list[float] = []
    # How much of each training was done: variants go on from there.
    parts: dict[str, float] = {}
    while not costs or costs[-1] < evaluations:
        started = time.perf_counter()
        found = anywhere.ask(1) if at_random else [search.ask()]
        seconds.append(time.perf_counter() - started)
        if not found or point_key(found[0]) in seen:
            break
        candidate = found[0]
        seen.add(point_key(candidate))
        name, prefix = point_key(candidate), problem.prefix(candidate)
        exact = [float(column[0]) for column in problem.costs([candidate]).values()]
        cost = VARIANT
        going = True
        if problem.part in promotion.rungs:
            cost += (1 - VARIANT) * max(0.0, problem.part - parts.get(prefix, 0.0))
            parts[prefix] = max(problem.part, parts.get(prefix, 0.0))
            promotion.reached(name, problem.part, exact, problem.after_part(candidate))
            going = promotion.promising(name)
        if going:
            cost += (1 - VARIANT) * (1 - parts.get(prefix, 0.0))
            parts[prefix] = 1.0
            quality = problem.observe(candidate, seed)
            promotion.ended(name, exact, quality)
            if not at_random:
                search.tell(candidate, [quality], problem.noise)
            candidates.append(candidate)
            costs.append((costs[-1] if costs else 0.0) + cost)
        else:
            expected = promotion.expected(name)
            promotion.dropped(name)
            stopped.add(name)
            if not at_random:
                search.tell(candidate, None if expected is None else [expected[0]], None if expected is None else expected[1])
            # What a stopped trial took is paid by the next one that ends.
            costs[-1] += cost
    return row(problem, "random promotion" if at_random else "promotion", seed, candidates, seconds, costs)


def paid(problem: Problem, candidates: Sequence[Candidate]) -> list[float]:
    """Full trainings spent up to each candidate, where a training that was done is not done again."""
    trained: set[str] = set()
    costs = []
    for candidate in candidates:
        costs.append(VARIANT if problem.prefix(candidate) in trained else 1.0)
        trained.add(problem.prefix(candidate))
    return np.cumsum(costs).tolist()


def row(problem: Problem, name: str, seed: int, candidates: Sequence[Candidate], seconds: Sequence[float], costs: Sequence[float]) -> dict[str, Any]:
    """What is kept of a search."""
    counts = {str(share): needed(problem, candidates, share) for share in SHARES}
    spent = {share: None if count is None else round(costs[count - 1], 2) for share, count in counts.items()}
    curve = {str(n): round(float(problem.share(candidates[:n])), 4) for n in (*(n for n in AT if n < len(candidates)), len(candidates))}
    return {
        "algorithm": name,
        "seed": seed,
        "budget": problem.budgets[name],
        "evaluations": len(candidates),
        "needed": counts,
        "cost": spent,
        "curve": curve,
        "seconds": max(seconds[-TIMED:]),
    }


def needed(problem: Problem, candidates: Sequence[Candidate], share: float) -> int | None:
    """The fewest first candidates that hold this share of the reference hypervolume; None where all of them do not."""
    if problem.share(candidates) < share:
        return None
    low, high = 0, len(candidates)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if problem.share(candidates[:middle]) >= share else (middle, high)
    return high


def median(rows: Sequence[dict[str, Any]], name: str, share: float = 0.95, of: str = "needed") -> float:
    """Of an algorithm's runs, infinite where half of them did not get there; NaN where there are none."""
    values = [np.inf if r[of][str(share)] is None else r[of][str(share)] for r in rows if r["algorithm"] == name]
    return float(np.median(values)) if values else float("nan")


def quartiles(values: Sequence[float | None], budget: float) -> str:
    """Median and quartiles; a search that did not get there counts as longer than its budget."""
    ranked = np.sort([np.inf if v is None else v for v in values])
    ends = [float(np.quantile(ranked, q, method="higher")) for q in (0.5, 0.25, 0.75)]
    middle, low, high = (f"> {budget:.0f}" if np.isinf(v) else f"{v:.0f}" for v in ends)
    return middle if len(values) < 2 or middle == low == high else f"{middle} ({low} to {high})"


def table(problem: Problem, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| algorithm | seeds | evaluations to 90 % | 95 % | 97 % | trainings to 90 % | 95 % | share at 50 | at 100 | at the end | slowest late suggestion |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    yield "| oracle | | " + " | ".join(str(n) for n in problem.oracle) + " | | | | | | |"
    for name in dict.fromkeys(r["algorithm"] for r in rows):
        mine = [r for r in rows if r["algorithm"] == name]
        budget = min(r["evaluations"] for r in mine)
        held = [quartiles([r["needed"][str(share)] for r in mine], budget) for share in SHARES]
        spent = [quartiles([r["cost"][str(share)] for r in mine], budget) for share in SHARES[:2]]
        at = [f"{np.median([r['curve'][n] for r in mine if n in r['curve']]):.3f}" if any(n in r["curve"] for r in mine) else "-" for n in ("50", "100")]
        end = f"{np.median([list(r['curve'].values())[-1] for r in mine]):.3f} ({list(mine[0]['curve'])[-1]})"
        yield "| " + " | ".join([name, str(len(mine)), *held, *spent, *at, end, f"{max(r['seconds'] for r in mine):.2f} s"]) + " |"


def compare(problem: Problem, arguments: Sequence[str] | None, description: str | None, default: Sequence[str]) -> list[dict[str, Any]]:
    """Run what is missing in the file of results, print the table, and return its runs."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algorithms", nargs="+", choices=list(problem.budgets), default=list(default))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--few", type=int, default=3, help="seeds of gp, which is slow")
    parser.add_argument("--evaluations", nargs="*", default=[], metavar="ALGORITHM=N", help=f"instead of {problem.budgets}")
    parser.add_argument("--results", type=Path, default=BUILD / f"search_{problem.name}.jsonl")
    chosen = parser.parse_args(arguments)
    problem.budgets.update({name: int(count) for name, _, count in (text.partition("=") for text in chosen.evaluations)})
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    stored = [json.loads(line) for line in chosen.results.read_text().splitlines()] if chosen.results.exists() else []
    rows = []
    for seed in range(chosen.seeds):
        for name in chosen.algorithms:
            if name == "gp" and seed >= chosen.few:
                continue
            budget = problem.budgets[name]
            found = next((r for r in stored if (r["algorithm"], r["seed"], r["budget"]) == (name, seed, budget)), None)
            if found is None:
                found = run(problem, name, budget, seed)
                with chosen.results.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(f"{name}, seed {seed}: {found['needed']}, cost {found['cost']}, {found['curve']}", file=sys.stderr, flush=True)
            rows.append(found)
    print("\n".join(table(problem, sorted(rows, key=lambda r: chosen.algorithms.index(r["algorithm"])))))
    return rows
