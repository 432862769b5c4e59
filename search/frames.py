"""What a study found as data frames: fronts, trials, baselines, widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from search.comparing import dominated_baselines
from search.pareto import knee
from search.ties import ties

if TYPE_CHECKING:
    from search.record import TrialRecord
    from search.results import Results, Split

__all__ = ["details_frame", "front_frame", "widths_frame"]


def front_frame(
    results: Results, metrics: Sequence[str], device: str | None, where: str | None, split: Split, *, baselines: bool, everything: bool
) -> pd.DataFrame:
    """See ``Results.front``."""
    used, fronts = results.split(split), results.fronts(*metrics, device=device)
    objectives = results.objectives(*metrics, device=device)
    names = [name for name, _ in objectives]
    records = list(results.front_records(*metrics, device=device, where=where, split=split))
    on_front = len(records)
    members = {place: {r.id for r in results.ranked_front(traded, where, used)} for place, traded in fronts.items()}
    knees = set()
    for place, traded in fronts.items():
        there = [r for r in records if r.id in members[place]]
        best = knee(results.losses(there, traded, used))
        if best is not None:
            knees.add(there[best].id)
    tied = {r.id: dict[str, None]() for r in records}
    for place, traded in fronts.items():
        for trial, others in ties(results, [r for r in records if r.id in members[place]], traded, used).items():
            tied[trial].update(dict.fromkeys(others))
    if baselines:
        records += [r for r in results.records if r.baseline and r.status == "ok" and r not in records]
        records += [r for r in results.demoted if r not in records]
    shown = list(dict.fromkeys([*names, *(results.available() if everything else ())]))
    frame = metrics_frame(results, records, shown, used)
    frame.insert(2, "on_front", [i < on_front for i in range(len(records))])
    frame.insert(3, "knee", [r.id in knees and i < on_front for i, r in enumerate(records)])
    frame["devices"] = pd.Series([[place for place in fronts if place and r.id in members[place]] for r in records], dtype=object)
    frame["tied"] = pd.Series([list(tied.get(r.id, ())) for r in records], dtype=object)
    seeds = [results.seeds(r) for r in records]
    frame["seeds"] = [s.count if s else 0 for s in seeds]
    frame["unstable"] = pd.Series([list(s.failed) if s else [] for s in seeds], dtype=object)
    for name in (m.name for m in results.experiment.names.quality if m.name in shown):
        frame[f"{name}_mean"] = [s.mean.get(name, np.nan) if s else np.nan for s in seeds]
    demoted = {r.id for r in results.demoted}
    beaten = [() if r.id in demoted else dominated_baselines(results, r, objectives, used) for r in records]
    frame["dominates"] = pd.Series([list(found) for found in beaten], dtype=object)
    frame["recipe"] = pd.Series([r.recipe for r in records], dtype=object)
    checked = [results.verified.get(r.id) for r in records]
    frame["verdict"] = pd.Series([v.verdict if v else "" for v in checked], dtype=object)
    frame["reasons"] = pd.Series([list(v.reasons) if v else [] for v in checked], dtype=object)
    for name in (name for name in shown if name in results.measurable):
        frame[f"{name}_found"] = [v.found.get(name, np.nan) if v else np.nan for v in checked]
    frame.attrs = {"split": used, "metrics": names}
    return frame


def details_frame(results: Results, records: Sequence[TrialRecord], split: Split) -> pd.DataFrame:
    """Every record with its status, reason, metrics, point of the search space, effort and recipe."""
    frame = metrics_frame(results, records, results.available(), split)
    frame.insert(2, "status", [r.status for r in records])
    frame.insert(3, "reason", [r.reason for r in records])
    frame.insert(4, "feasible", results.feasible(records, split))
    points = [r.values for r in records]  # noqa: PD011 - a record's field
    for dimension in dict.fromkeys(name for point in points for name in point):
        frame[dimension] = [point.get(dimension) for point in points]
    for name in ("seconds", "attempts", "rung", "replicate", "origin", "recipe"):
        frame[name] = [getattr(r, name) for r in records]
    frame.attrs = {"split": split}
    return frame


def metrics_frame(results: Results, records: Sequence[TrialRecord], names: Sequence[str], split: Split) -> pd.DataFrame:
    """Ids, and of each metric its value with ``_low``, ``_high`` and ``_tier``."""
    columns: dict[str, object] = {"id": [r.id for r in records], "baseline": pd.Series([r.baseline for r in records], dtype=object)}
    for name in names:
        found = [results.estimate(r, name, split) for r in records]
        columns[name] = [e.value for e in found]
        columns[f"{name}_low"] = [e.low for e in found]
        columns[f"{name}_high"] = [e.high for e in found]
        columns[f"{name}_tier"] = [e.tier for e in found]
    return pd.DataFrame(columns)


def widths_frame(results: Results, trial: str) -> pd.DataFrame:
    """Units before and after of every axis that the trial changed: columns ``axis``, ``before``, ``after``."""
    rows = [(axis, before, after) for axis, (before, after) in results.record(trial).widths.items()]
    return pd.DataFrame(rows, columns=["axis", "before", "after"])
