"""Lines about a front as a whole: what it is on each device, which techniques are on it, and what its points owe to the seed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from search.figures import change, figure
from search.pareto import knee
from search.quantities import counted
from search.replicates import pooled
from search.results import Results

__all__ = ["front_plain_by_device", "front_summaries", "spread_lines", "technique_lines", "tied_lines"]


def front_plain_by_device(results: Results) -> list[dict[str, Any]]:
    """Of each front where several devices have one: ``device``, ``points``, ``knee`` (its id, or None) and ``hypervolume``."""
    found = []
    split = results.split()
    for device, objectives in results.experiment.fronts.items():
        if device:
            records = results.ranked_front(objectives)
            best = knee(results.losses(records, objectives, split))
            volume = results.hypervolume(device=device)
            row = {"device": device, "points": len(records), "knee": None if best is None else records[best].id, "hypervolume": volume}
            found.append({**row, "hypervolume": volume if volume == volume else None})
    return found


def front_summaries(results: Results) -> list[str]:
    """A line for each device that has a front of its own; none where there is one front."""
    lines = []
    for row in front_plain_by_device(results):
        volume = "" if row["hypervolume"] is None else f", hypervolume {row['hypervolume']:.4g}"
        lines.append(f"on {row['device']}: {row['points']} points, knee {row['knee'] or 'none'}{volume}")
    return lines


def technique_lines(results: Results) -> list[str]:
    """Which share of the front's trials uses each step of the recipe; no line where all trials have the same steps."""
    steps = {r.id: {name for step in r.recipe for name in step} for r in results.records if r.baseline is None and r.status == "ok"}
    names = list(dict.fromkeys(name for r in results.records if r.id in steps for step in r.recipe for name in step))
    front = [r.id for r in results.front_records() if r.id in steps]
    if not front or all(found == set(names) for found in steps.values()):
        return []
    shares = ", ".join(f"{name} {sum(name in steps[trial] for trial in front) / len(front):.0%}" for name in names)
    return [f"of the front's {counted(len(front), 'trial')} use: {shares}"]


def spread_lines(results: Results) -> list[str]:
    """How far seeds spread, and which points did not train with every seed."""
    main = results.experiment.names.quality[0]
    seeds = {r.id: found for r in results.records if (found := results.seeds(r)) is not None}
    values = [found.values.get(main.name, ()) for found in seeds.values()]
    variance, freedom = pooled(values)
    lines = []
    if freedom:
        spread = change(main, 0.0, variance**0.5).replace("+", "", 1) if main.is_accuracy else f"{main.name} {figure(main, variance**0.5)}"
        points = sum(len(trained) > 1 for trained in values)
        lines.append(f"between seeds: standard deviation {spread}, from {counted(freedom, 'replicate')} of {counted(points, 'point')}; intervals cover it")
    lines += [f"{trial} is unstable (!): {'; '.join(found.failed)}" for trial, found in seeds.items() if found.failed]
    return lines


def tied_lines(rows: Iterable[dict[Any, Any]]) -> list[str]:
    """What the mark of tied rows means, and with which points they are tied."""
    tied = {str(row["id"]): row["tied"] for row in rows if row["tied"]}
    if not tied:
        return []
    more = {trial: f" and {counted(len(others) - 1, 'other')}" if len(others) > 1 else "" for trial, others in tied.items()}
    pairs = ", ".join(f"{trial} with {others[0]}{more[trial]}" for trial, others in tied.items())
    meaning = "no better, as far as a t test can tell (5 %, paired over examples, with the spread between seeds), than a point that costs less"
    return [f"~ is tied, {meaning}: {pairs}"]
