"""Trials of another study of the same model and data, taken over: their quality as it was measured, their costs priced anew."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from compressors.graph import ModelGraph
from compressors.recipe import Recipe
from search.experiment import Experiment
from search.grouping import in_groups
from search.late_device import rates_of, shapes_of
from search.preparing import Prepared
from search.record import TrialRecord
from search.space_inverse import point_of
from search.study_files import EXPERIMENT, STUDY, find_study, read_records

__all__ = ["adopted", "identity_of", "require_same_model"]

_FORMAT = 1


def identity_of(prepared: Prepared) -> dict[str, Any]:
    """What a study is of, as plain data."""
    return {
        "format_version": _FORMAT,
        "model_key": prepared.model_key,
        "data_key": prepared.data_key,
        "graph": prepared.graph.fingerprint,
        "versions": dict(prepared.versions),
    }


def require_same_model(folder: Path, prepared: Prepared, asked: str) -> None:
    """Refuse a study whose trials say nothing about this model on this data.

    Args:
        folder: of the other study.
        prepared: this one's.
        asked: the option that named it, for the message.

    Raises:
        UserError: says what differs.
    """
    try:
        found = json.loads((folder / STUDY).read_text(encoding="utf-8"))
        theirs = {key: str(found[key]) for key in ("model_key", "data_key", "graph")}
    except FileNotFoundError:
        raise UserError(f"{asked}: study {folder.name!r} was written by an older compareto, which did not keep what model and data it is of") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{asked}: {folder / STUDY} does not say what model and data the study is of ({error})") from error
    ours = identity_of(prepared)
    named = {
        "model_key": "the model (its code or its weights)",
        "data_key": "the data (source, splits, preprocessing)",
        "graph": "the size it was traced at",
    }
    differing = [what for key, what in named.items() if theirs[key] != ours[key]]
    if differing:
        differ = " and ".join(differing) + (" differs" if len(differing) == 1 else " differ")
        raise UserError(f"{asked}: study {folder.name!r} is of something else: {differ}; its trials say nothing here")


def adopted(
    study: str, storage: str | Path, prepared: Prepared, line: Callable[[str], None], at: Callable[[Recipe], Prepared] | None = None
) -> Iterator[TrialRecord]:
    """The trials of another study as records of this one, in order: ``STUDY.ID``.

    Those that were proposed there, ended well and were trained to the end. Quality is what was measured there on ``search``, also where its seed was another;
    costs are of this experiment's devices. ``values`` is the point of this experiment's space, empty where it has none. Recipes that quantize count only where
    the runtimes are the same, whose numerics they are of. ``at`` is what a recipe is priced by, where that depends on its input size.

    Raises:
        UserError: no such study, one of another model or other data, or one without any trial to take over.
    """
    folder = find_study(study, storage)
    require_same_model(folder, prepared, "--from")
    theirs = Experiment.frozen(folder / EXPERIMENT)
    records = [r for r in read_records(folder) if r.status == "ok" and r.baseline is None and r.rung >= 1 and r.replicate == 0]
    by_id = {r.id: prepared if at is None else at(Recipe.from_plain(r.recipe)) for r in records}
    usable = [r for r in records if _fits(r, by_id[r.id].graph) and (theirs.target == prepared.experiment.target or not _quantizes(r))]
    if not usable:
        what = f"{len(records)} of another runtime's numerics, {theirs.target}" if records else "none has ended well"
        raise UserError(f"--from: study {folder.name!r} has no trial to take over ({what})")
    quality = {m.name for m in prepared.task.quality}
    inside = 0
    priced = in_groups(usable, lambda r: id(by_id[r.id]), lambda some: by_id[some[0].id].costs_alone(shapes_of(some), rates_of(some)))
    for record, costs in zip(usable, priced, strict=True):
        values = point_of(prepared.experiment.space, record.recipe)
        inside += values is not None
        yield dataclasses.replace(
            record,
            id=record.id if record.origin else f"{folder.resolve().name}.{record.id}",
            metrics={**costs, **{name: value for name, value in record.metrics.items() if name in quality}},
            report={},
            examples={},
            values=values or {},
            bounds={},
            origin=record.origin or folder.resolve().name,
        )
    left = f"; {len(records) - len(usable)} left out, quantized for {theirs.target}" if len(usable) < len(records) else ""
    line(f"{len(usable)} trials of study {folder.name!r} taken over, {inside} of them points of this space{left}")


def _quantizes(record: TrialRecord) -> bool:
    return any("quantize" in step for step in record.recipe)


def _fits(record: TrialRecord, graph: ModelGraph) -> bool:
    sites: Mapping[str, Any] = record.candidate
    return bool(sites) and len(sites["widths"]) == len(graph.axes) and len(sites["weight_bits"]) == len(graph.sites)
