"""A front for scripts: CSV and JSON (``docs/formats.md`` documents both); and recipes in a few words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from compressors.errors import StorageError
from search.front_summary import front_plain_by_device
from search.record import TrialRecord
from search.results import Results

__all__ = ["brief", "brief_heading", "front_csv", "front_json", "front_plain", "metric_columns", "trials_jsonl", "varied_settings", "write_exports"]

FORMAT_VERSION = 1


def front_plain(results: Results, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of ``Results.front`` as plain data: ``metrics`` by name with value, low, high, tier and unit; what is unknown is left out.

    ``verification`` is what was found where a point's artifact was measured, else None.
    """
    names = metric_columns(frame)
    units = {name: results.experiment.names.resolve(name)[1].unit for name in names}
    rows: list[dict[str, Any]] = []
    for row in frame.to_dict("records"):
        metrics = {
            n: {"value": row[n], "low": row[f"{n}_low"], "high": row[f"{n}_high"], "tier": row[f"{n}_tier"], "unit": units[n]}
            for n in names
            if pd.notna(row[n])
        }
        fixed = {key: row[key] for key in ("id", "baseline", "on_front", "knee")}
        widths = {axis: list(units) for axis, units in results.record(row["id"]).widths.items()}
        seeds = {"count": row["seeds"], "mean": {n: row[f"{n}_mean"] for n in names if pd.notna(row.get(f"{n}_mean"))}, "failed": row["unstable"]}
        fixed |= {"devices": row["devices"], "tied": row["tied"], "seeds": seeds if row["seeds"] or row["unstable"] else None}
        shown = {"metrics": metrics, "verification": _verification(results, row["id"]), "dominates": row["dominates"], "recipe": row["recipe"]}
        rows.append({**fixed, **shown, "widths": widths})
    return rows


def _verification(results: Results, trial: str) -> dict[str, Any] | None:
    found = results.verified.get(trial)
    return None if found is None else {"verdict": found.verdict, "reasons": list(found.reasons), "runtime": found.runtime, "found": dict(found.found)}


def front_json(results: Results, frame: pd.DataFrame, pick: str | None = None) -> str:
    """The front with what it is a front of."""
    metrics = frame.attrs["metrics"]
    volumes = {which: results.hypervolume(*metrics, split=frame.attrs["split"], which=which) for which in ("front", "baselines")}
    document = {
        "format_version": FORMAT_VERSION,
        "study": results.name,
        "metrics": {n: results.experiment.names.resolve(n)[1].direction for n in metrics},
        "split": frame.attrs["split"],
        "hypervolume": {which: value if value == value else None for which, value in volumes.items()},
        "devices": front_plain_by_device(results) if metrics == [name for name, _ in results.objectives()] else [],
        "pick": pick,
        "front": front_plain(results, frame),
    }
    return json.dumps(document, indent=1, allow_nan=False)


def front_csv(frame: pd.DataFrame) -> str:
    """Rows of ``Results.front``: names of dominated baselines joined by spaces, reasons by semicolons, recipes as JSON."""
    flat = frame.copy()
    for name, separator in (("reasons", "; "), ("unstable", "; "), ("dominates", " "), ("devices", " "), ("tied", " ")):
        flat[name] = [separator.join(texts) for texts in frame[name]]
    flat["recipe"] = [json.dumps(recipe, sort_keys=True) for recipe in frame["recipe"]]
    return flat.to_csv(index=False, lineterminator="\n")


def trials_jsonl(records: Sequence[TrialRecord]) -> str:
    """One record a line, without what single examples contributed."""
    return "".join(f"{replace(record, examples={}).to_json()}\n" for record in records)


def write_exports(results: Results, folder: Path) -> None:
    """``trials.jsonl``, ``front.csv`` and ``report.html`` in ``folder``; replaces older ones, and never leaves half of one.

    Raises:
        StorageError: the folder cannot be written.
    """
    from search.report import render

    written = {
        "trials.jsonl": trials_jsonl([*results.records, *(r for others in results.replicates.values() for r in others)]),
        "front.csv": front_csv(results.front(baselines=True, everything=True)),
        "report.html": render(results),
    }
    for name, text in written.items():
        partial = folder / f".{name}.partial"
        try:
            partial.write_text(text, encoding="utf-8")
            partial.replace(folder / name)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise StorageError(f"cannot write {folder / name}: {error.strerror or error}; the records are kept: make room, then --resume") from error


def metric_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the metrics that a frame has."""
    return [str(c) for c in frame.columns if f"{c}_tier" in frame.columns]


def _flat(config: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(config, Mapping):
        return {place: value for key, child in config.items() for place, value in _flat(child, f"{prefix}.{key}" if prefix else str(key)).items()}
    return {prefix: config}


def varied_settings(records: Sequence[TrialRecord]) -> set[tuple[str, str]]:
    """Which settings of which steps differ between proposed trials: the ones worth showing."""
    seen: dict[tuple[str, str], set[str]] = {}
    for record in records:
        if record.baseline is None:
            for step in record.recipe:
                for name, config in step.items():
                    for place, value in _flat(config or {}).items():
                        seen.setdefault((name, place), set()).add(json.dumps(value))
    return {key for key, values in seen.items() if len(values) > 1}


def brief(recipe: Sequence[Mapping[str, Any]], varied: set[tuple[str, str]] | None = None) -> str:
    """A recipe in a few words, such as ``prune taylor 0.42, quantize 4 8``: values in the order of the settings; with ``varied``, only of those it names."""
    steps = []
    for step in recipe:
        for name, config in step.items():
            shown = [value for place, value in _flat(config or {}).items() if varied is None or (name, place) in varied]
            words = [f"{value:.2g}" if isinstance(value, float) else str(value) for value in shown if value not in (None, [], ())]
            steps.append(" ".join([name, *words]))
    return ", ".join(steps) or "uncompressed"


def brief_heading(records: Sequence[TrialRecord]) -> str:
    """What the values of ``brief`` are, step by step: ``prune criterion channels, quantize weight_bits``."""
    varied, steps = varied_settings(records), dict[str, dict[str, None]]()
    for record in records:
        if record.baseline is None:
            for step in record.recipe:
                for name, config in step.items():
                    steps.setdefault(name, {}).update(dict.fromkeys(p for p in _flat(config or {}) if (name, p) in varied))
    return ", ".join(" ".join([name, *(place.rpartition(".")[2] for place in places)]) for name, places in steps.items())
