"""``report.html``: template, style, script and data in one file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, cast

import numpy as np
import yaml

from compressors.errors import UserError
from compressors.recipe import Recipe
from evaluators.metric import Estimate
from search.figures import short_name
from search.front_formats import brief, brief_heading, varied_settings
from search.front_summary import front_summaries, spread_lines, technique_lines, tied_lines
from search.record import TrialRecord
from search.report.picture import picture
from search.results import Results, Split

__all__ = ["render"]

_PARTS = {"STYLE": "page.css", "FIGURES": "figures.js", "PLOT": "plot.js", "PAGE": "page.js"}


def render(results: Results) -> str:
    """The page. Everything that the study names reaches it as JSON and is shown as text, never as markup."""
    here = files("search.report")
    page = (here / "page.html").read_text(encoding="utf-8")
    try:
        still = picture(results)
    except UserError:
        still = ""
    # In a script element only "</" and "<!--" could end the data early; both are one character away from harmless JSON.
    data = json.dumps(page_data(results), allow_nan=False, ensure_ascii=True).replace("<", "\\u003c")
    # The data last: nothing that it holds is then taken for a placeholder.
    parts = {f"/*{name}*/": (here / file).read_text(encoding="utf-8") for name, file in _PARTS.items()}
    for placeholder, text in {**parts, "<!--STILL-->": still, "/*DATA*/": data}.items():
        page = page.replace(placeholder, text, 1)
    return page


def page_data(results: Results) -> dict[str, Any]:
    """What the page shows, as plain data."""
    experiment = results.experiment
    front = results.front(baselines=True)
    rows = {row["id"]: row for row in front.to_dict("records")}
    varied = varied_settings(results.records)
    # Only published points have figures on `report`; the others are judged on what the search saw.
    kept = np.zeros(len(results.records), dtype=np.bool_)
    for split, published in (("report", True), ("search", False)):
        chosen = [i for i, r in enumerate(results.records) if bool(r.report) == published]
        kept[chosen] = results.feasible([results.records[i] for i in chosen], cast("Split", split))
    objectives = [name for name, _ in results.objectives()]
    volumes = [results.hypervolume(which=which) for which in ("front", "baselines")]
    return {
        "study": results.name,
        "split": results.split(),
        "objectives": objectives,
        "metrics": _metrics(results),
        "devices": list(experiment.devices),
        "points": [_point(results, r, rows.get(r.id), bool(keeps), varied) for r, keeps in zip(results.records, kept, strict=True)],
        "order": list(rows),
        "settings": brief_heading(results.records),
        "fronts": [*front_summaries(results), *technique_lines(results), *tied_lines(rows.values()), *spread_lines(results)],
        "statuses": results.statuses(),
        "hypervolume": [v if v == v else None for v in volumes],
        "summary": results.summary() if results.records else "",
        "provenance": _provenance(results),
    }


def _metrics(results: Results) -> list[dict[str, Any]]:
    """Metrics without their devices: quality, exact, then predicted ones."""
    found: dict[str, dict[str, Any]] = {}
    for name in results.available():
        metric = results.experiment.names.resolve(name)[1]
        about = {"name": metric.name, "unit": metric.unit, "direction": metric.direction, "knowledge": metric.knowledge}
        found[metric.name] = {**about, "accuracy": metric.is_accuracy}
    order = [m.name for m in results.experiment.names.quality]
    return sorted(
        found.values(), key=lambda m: ({"observed": 0, "exact": 1, "predicted": 2}[m["knowledge"]], order.index(m["name"]) if m["name"] in order else 0)
    )


def _estimates(values: dict[str, Estimate]) -> dict[str, list[Any]]:
    return {name: [e.value, e.low, e.high, e.tier] for name, e in values.items() if e.value == e.value}


def _point(results: Results, record: TrialRecord, row: Any, feasible: bool, varied: set[tuple[str, str]]) -> dict[str, Any]:
    observed = {m.name for m in results.experiment.names.quality}
    return {
        "id": record.id,
        "baseline": record.baseline,
        "status": record.status,
        "reason": record.reason,
        "metrics": _estimates(record.metrics),
        "report": _estimates({n: results.estimate(record, n, "report") for n in record.report if short_name(n) in observed}),
        "feasible": feasible,
        "onFront": bool(row is not None and row["on_front"]),
        "knee": bool(row is not None and row["knee"]),
        "dominates": list(row["dominates"]) if row is not None else [],
        "tied": list(row["tied"]) if row is not None else [],
        "seeds": _seeds(results, record),
        "brief": f"baseline {record.baseline}" if record.baseline else brief(record.recipe, varied),
        "recipe": yaml.safe_dump(_without_defaults(record.recipe), sort_keys=False, width=100) if record.recipe else "[]  # the uncompressed model\n",
        "widths": [[axis, before, after] for axis, (before, after) in record.widths.items()],
        "bounds": record.bounds,
        "seconds": record.seconds,
        "rung": record.rung,
        "summary": results.summary(record.id) if record.status == "ok" else "",
        "verification": _verification(results, record),
    }


def _seeds(results: Results, record: TrialRecord) -> dict[str, Any] | None:
    found = results.seeds(record)
    return None if found is None else {"count": found.count, "mean": found.mean, "failed": list(found.failed)}


def _verification(results: Results, record: TrialRecord) -> dict[str, Any] | None:
    found = results.verified.get(record.id)
    if found is None:
        return None
    return {"verdict": found.verdict, "reasons": list(found.reasons), "runtime": found.runtime, "found": dict(found.found), "demoted": found.demoted}


def _without_defaults(recipe: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without settings that are empty, where these mean the same left out."""
    short = [{name: {k: v for k, v in (config or {}).items() if v not in (None, [], {})} for name, config in step.items()} for step in recipe]
    try:
        same = Recipe.from_plain(short) == Recipe.from_plain(recipe)
    except UserError:
        same = False
    return short if same else recipe


def _provenance(results: Results) -> list[list[str]]:
    experiment, search = results.experiment, results.experiment.search
    budget: Sequence[str] = [f"{getattr(search, key)} {key}" for key in ("trials", "hours", "cost") if getattr(search, key) is not None]
    versions: dict[str, str] = {}
    for record in results.records:
        versions.update(record.versions)
    rows = [
        ["experiment", f"{experiment.name} ({experiment.fingerprint})"],
        ["model", str(experiment.model.factory or experiment.model.pretrained)],
        ["data", experiment.data.told],
        ["target", experiment.target],
        ["search", f"{search.algorithm}, {' '.join(budget)}, seed {search.seed}"],
        ["constraints", "; ".join(experiment.constraints) or "none"],
        ["machine", versions.pop("machine", "")],
        ["versions", ", ".join(f"{package} {found}" for package, found in versions.items())],
    ]
    return [row for row in rows if row[1]]
