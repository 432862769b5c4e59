"""A study's folder as its one writer sees it: immutable records, what is under way, and the lease."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml

from compressors.errors import UserError
from evaluators.metric import Estimate
from search.experiment import Experiment
from search.record import TrialRecord
from search.study_files import EXPERIMENT, RECORDS, REPORTS, read_records

__all__ = ["Ledger"]

_PENDING = "pending"
_LEASE = "lease"


class Ledger:
    """Open with ``Ledger.create`` or ``Ledger.resume``; ``close`` gives the lease back."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, experiment: Experiment) -> Self:
        """A new study.

        Raises:
            UserError: it exists, or the folder cannot be written.
        """
        if folder.exists():
            raise UserError(f"study {folder.name!r} exists in {folder.parent}; choose another --name, or continue it with --resume")
        try:
            for part in (RECORDS, REPORTS, _PENDING):
                (folder / part).mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write the study {folder}: {error}") from error
        ledger = cls(folder)
        ledger._lease()
        _write(folder / EXPERIMENT, experiment.to_yaml())
        return ledger

    @classmethod
    def resume(cls, folder: Path, experiment: Experiment) -> Self:
        """An existing study of the same experiment.

        Raises:
            UserError: there is none, it is another experiment's, or another process writes it.
        """
        if not (folder / EXPERIMENT).is_file():
            raise UserError(f"no study {folder.name!r} in {folder.parent} to resume")
        frozen = yaml.safe_load((folder / EXPERIMENT).read_text())
        now = yaml.safe_load(experiment.to_yaml())
        # A longer budget or other resources continue the same search; everything else would be another one.
        free = {"folder", "search"}
        differing = [k for k in sorted({*frozen, *now} - free) if frozen.get(k) != now.get(k)]
        differing += [f"search.{k}" for k in ("algorithm", "seed") if frozen["search"].get(k) != now["search"].get(k)]
        if differing:
            raise UserError(f"study {folder.name!r} is of another experiment: {', '.join(differing)} differ; resume it with its own, or choose another --name")
        ledger = cls(folder)
        ledger._lease()
        return ledger

    def _lease(self) -> None:
        path = self.folder / _LEASE
        if path.exists():
            holder = json.loads(path.read_text() or "{}")
            if holder.get("host") == socket.gethostname() and _alive(int(holder.get("pid", -1))) and holder.get("pid") != os.getpid():
                raise UserError(f"study {self.folder.name!r} is being written by process {holder['pid']} on {holder['host']}")
        _write(path, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}))

    def close(self) -> None:
        """Give the lease back."""
        (self.folder / _LEASE).unlink(missing_ok=True)

    def records(self) -> tuple[TrialRecord, ...]:
        """Every terminal record."""
        return read_records(self.folder)

    def pending(self) -> list[dict[str, Any]]:
        """Jobs that were started and have no record, oldest first."""
        done = {path.name for path in (self.folder / RECORDS).glob("*.json")}
        return [json.loads(path.read_text()) for path in sorted((self.folder / _PENDING).glob("*.json")) if path.name not in done]

    def start(self, job: Mapping[str, Any]) -> None:
        """Note that a job is under way, so that a resume runs the same recipe under the same id."""
        _write(self.folder / _PENDING / f"{job['id']}.json", json.dumps(dict(job)))

    def finish(self, record: TrialRecord) -> None:
        """Write a terminal record, durably, once."""
        _write(self.folder / RECORDS / f"{record.id}.json", record.to_json(), once=True)
        (self.folder / _PENDING / f"{record.id}.json").unlink(missing_ok=True)

    def publish(self, trial: str, report: Mapping[str, Estimate]) -> None:
        """Write a trial's estimates on ``report``."""
        _write(self.folder / REPORTS / f"{trial}.json", json.dumps({"report": {k: v.to_plain() for k, v in report.items()}}))


def _write(path: Path, text: str, *, once: bool = False) -> None:
    """Whole or not at all, and on the disk when it returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    if once:
        os.link(temporary, path)
        temporary.unlink()
    else:
        temporary.replace(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError, ValueError):
        return False
    except PermissionError:
        return True
    return pid > 0
