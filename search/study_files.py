"""Where a study's files lie, and how they are read back. A study is a folder; its records are immutable, one file each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from compressors.errors import UserError, near_miss
from evaluators.cache_folder import local_folder
from evaluators.metric import Estimate
from search.objects import fetch_study
from search.record import TrialRecord
from search.replicates import replicated

__all__ = [
    "ARTIFACTS",
    "EXPERIMENT",
    "GRAPH",
    "GRAPHS",
    "RECORDS",
    "REPLICATES",
    "REPORTS",
    "STORAGE",
    "STUDY",
    "VERIFIED",
    "find_study",
    "read_records",
    "read_replicates",
]

STORAGE = "studies"
"""Folder of studies where nobody says otherwise."""

EXPERIMENT = "experiment.yaml"
RECORDS = "records"
REPORTS = "reports"
VERIFIED = "verified"
ARTIFACTS = "artifacts"
REPLICATES = "replicates"
GRAPH = "graph.json"
GRAPHS = "graphs"
"""The traced model at other sizes of inputs than the data's."""
STUDY = "study.json"


def find_study(study: str | Path, storage: str | Path = STORAGE) -> Path:
    """The folder of a study that is given as a folder or URI, or by its name in ``storage``; of one in an object store, a copy on this machine.

    Raises:
        UserError: there is none.
        StorageError: the object store cannot be read.
    """
    uri = str(study) if "://" in str(study) or (Path(study).expanduser() / EXPERIMENT).is_file() else f"{str(storage).rstrip('/')}/{study}"
    if "://" in uri:
        elsewhere = local_folder(uri)
        if elsewhere is None:
            return fetch_study(uri)
        study = elsewhere
    for folder in (Path(study).expanduser(), Path(storage) / study):
        if (folder / EXPERIMENT).is_file():
            return folder
    if Path(study).is_dir():
        raise UserError(f"{str(study)!r} is not a study: it has no {EXPERIMENT}")
    there = sorted(path.parent.name for path in Path(storage).glob(f"*/{EXPERIMENT}"))
    raise UserError(f"no study {str(study)!r}; accepted: a study's folder, or one of {', '.join(there) or 'none'} in {storage}{near_miss(str(study), there)}")


def read_records(folder: Path) -> tuple[TrialRecord, ...]:
    """Every terminal record, in order of id, with the estimates on ``report`` of those that were published.

    ``records/ID.json`` is a ``TrialRecord``; ``reports/ID.json`` an object whose key ``report`` has the estimates by metric, and ``examples`` what each example
    contributed to the main one.

    Raises:
        UserError: a file is not valid or was deleted; names it.
    """
    if not (folder / RECORDS).is_dir():
        raise UserError(f"study {folder} is half deleted: it has no folder {RECORDS}; put it back, or make an empty one and resume the study to run it again")
    # Before the records: where the study is being written, each of these has its record already.
    known = {path.name: path for part in (REPORTS, VERIFIED) for path in sorted((folder / part).glob("*.json"))}
    records = []
    for path in sorted((folder / RECORDS).glob("*.json")):
        known.pop(path.name, None)
        record = TrialRecord.from_json(_text(path), str(path))
        published = folder / REPORTS / path.name
        if published.is_file():
            report, examples = _report(published)
            record = dataclasses.replace(record, report=report, examples=examples)
        records.append(record)
    if known:
        lost = ", ".join(f"{RECORDS}/{name}" for name in list(known)[:5]) + (", ..." if len(known) > 5 else "")
        about = f"{next(iter(known.values())).relative_to(folder)} {'and others are' if len(known) > 1 else 'is'}"
        raise UserError(f"study {folder} is half deleted: {lost} missing, which {about} about; put the records back, or delete these too to go on without")
    return tuple(records)


def read_replicates(folder: Path) -> dict[str, tuple[TrialRecord, ...]]:
    """Records of ``replicates/ID-rN.json``, by the id of the point that they are of, in order of N; their estimates are on ``report``.

    Raises:
        UserError: a file is not valid; names it.
    """
    found: dict[str, list[TrialRecord]] = {}
    for path in sorted((folder / REPLICATES).glob("*.json")):
        record = TrialRecord.from_json(_text(path), str(path))
        found.setdefault(replicated(record.id), []).append(record)
    return {trial: tuple(sorted(records, key=lambda r: r.replicate)) for trial, records in found.items()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _report(path: Path) -> tuple[dict[str, Estimate], dict[str, str]]:
    try:
        found = json.loads(_text(path))
        return {name: Estimate.from_plain(value) for name, value in found["report"].items()}, dict(found.get("examples", {}))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a valid report ({error}); delete it and resume the study to measure it again") from error
