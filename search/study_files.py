"""Where a study's files lie, and how they are read back. A study is a folder; its records are immutable, one file each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from compressors.errors import UserError, near_miss
from evaluators.metric import Estimate
from search.record import TrialRecord

__all__ = ["ARTIFACTS", "EXPERIMENT", "RECORDS", "REPORTS", "STORAGE", "VERIFIED", "find_study", "read_records"]

STORAGE = "studies"
"""Folder of studies where nobody says otherwise."""

EXPERIMENT = "experiment.yaml"
RECORDS = "records"
REPORTS = "reports"
VERIFIED = "verified"
ARTIFACTS = "artifacts"


def find_study(study: str | Path, storage: str | Path = STORAGE) -> Path:
    """The folder of a study that is given as a folder, or by its name in ``storage``.

    Raises:
        UserError: there is none.
    """
    for folder in (Path(study).expanduser(), Path(storage) / study):
        if (folder / EXPERIMENT).is_file():
            return folder
    if Path(study).is_dir():
        raise UserError(f"{str(study)!r} is not a study: it has no {EXPERIMENT}")
    there = sorted(path.parent.name for path in Path(storage).glob(f"*/{EXPERIMENT}"))
    raise UserError(f"no study {str(study)!r}; accepted: a study's folder, or one of {', '.join(there) or 'none'} in {storage}{near_miss(str(study), there)}")


def read_records(folder: Path) -> tuple[TrialRecord, ...]:
    """Every terminal record, in order of id, with the estimates on ``report`` of those that were published.

    ``records/ID.json`` is a ``TrialRecord``; ``reports/ID.json`` an object whose key ``report`` has the estimates by metric.

    Raises:
        UserError: a file is not valid; names it.
    """
    records = []
    for path in sorted((folder / RECORDS).glob("*.json")):
        record = TrialRecord.from_json(_text(path), str(path))
        published = folder / REPORTS / path.name
        if published.is_file():
            record = dataclasses.replace(record, report=_report(published))
        records.append(record)
    return tuple(records)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _report(path: Path) -> dict[str, Estimate]:
    try:
        return {name: Estimate.from_plain(value) for name, value in json.loads(_text(path))["report"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a valid report ({error}); delete it and resume the study to measure it again") from error
