"""A study's folder as its one writer sees it: immutable records, what is under way, and the lease."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TextIO

import yaml

from compressors.errors import UserError
from evaluators.metric import Estimate
from search.experiment import Experiment
from search.record import TrialRecord
from search.study_files import EXPERIMENT, RECORDS, REPORTS, VERIFIED, read_records
from search.verification import Verification
from search.yaml_text import read_yaml

__all__ = ["Ledger"]

_PENDING = "pending"
_LEASE = "lease"


class Ledger:
    """Open with ``Ledger.create`` or ``Ledger.resume``; ``close`` gives the lease back.

    The lease is a lock on a file, which ends with its process: a killed search blocks nobody.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held = _lease(folder)

    @classmethod
    def create(cls, folder: Path, experiment: Experiment) -> Self:
        """A new study. What a start that failed left behind under this name, a study without any record, is taken over.

        Raises:
            UserError: it exists, another process writes it, or the folder cannot be written.
        """
        if folder.exists() and not _without_record(folder):
            raise UserError(f"study {folder.name!r} exists in {folder.parent}; choose another --name, or continue it with --resume")
        try:
            for part in (RECORDS, REPORTS, _PENDING):
                (folder / part).mkdir(parents=True, exist_ok=True)
            ledger = cls(folder)
            for path in (folder / _PENDING).iterdir():
                path.unlink()
            _write(folder / EXPERIMENT, experiment.to_yaml())
        except OSError as error:
            raise UserError(f"cannot write the study {folder}: {error.strerror or error}") from error
        return ledger

    @classmethod
    def resume(cls, folder: Path, experiment: Experiment) -> Self:
        """An existing study of the same experiment.

        Raises:
            UserError: there is none, it is another experiment's, or another process writes it.
        """
        if not (folder / EXPERIMENT).is_file():
            raise UserError(f"no study {folder.name!r} in {folder.parent} to resume")
        frozen = read_yaml(folder / EXPERIMENT)
        if not isinstance(frozen, dict) or not isinstance(frozen.get("search"), dict):
            raise UserError(f"{folder / EXPERIMENT} is not the experiment of a study; choose another --name")
        now = yaml.safe_load(experiment.to_yaml())
        # A longer budget or other resources continue the same search; everything else would be another one.
        free = {"folder", "name", "search"}
        differing = [k for k in sorted({*frozen, *now} - free) if frozen.get(k) != now.get(k)]
        differing += [f"search.{k}" for k in ("algorithm", "seed") if frozen["search"].get(k) != now["search"].get(k)]
        if differing:
            raise UserError(f"study {folder.name!r} is of another experiment: {', '.join(differing)} differ; resume it with its own, or choose another --name")
        return cls(folder)

    def close(self) -> None:
        """Give the lease back."""
        if not self._held.closed:
            (self.folder / _LEASE).unlink(missing_ok=True)
            self._held.close()

    def discard(self) -> None:
        """Close, and remove a study whose start failed; one that has a record stays."""
        if _without_record(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
            self._held.close()
        self.close()

    def records(self) -> tuple[TrialRecord, ...]:
        """Every terminal record."""
        return read_records(self.folder)

    def pending(self) -> list[dict[str, Any]]:
        """Jobs that were started and have no record, oldest first.

        Raises:
            UserError: the file of one is not valid; names it.
        """
        done = {path.name for path in (self.folder / RECORDS).glob("*.json")}
        return [_job(path) for path in sorted((self.folder / _PENDING).glob("*.json")) if path.name not in done]

    def start(self, job: Mapping[str, Any]) -> None:
        """Note that a job is under way, so that a resume runs the same recipe under the same id.

        Not synced: it outlives its process, and where the machine itself stops another recipe is proposed in its place.
        """
        _write(self.folder / _PENDING / f"{job['id']}.json", json.dumps(dict(job)), durably=False)

    def finish(self, record: TrialRecord) -> None:
        """Write a terminal record, durably, once."""
        path = self.folder / RECORDS / f"{record.id}.json"
        if path.exists():
            raise FileExistsError(f"trial {record.id} has its record")
        _write(path, record.to_json())
        (self.folder / _PENDING / f"{record.id}.json").unlink(missing_ok=True)

    def publish(self, trial: str, report: Mapping[str, Estimate]) -> None:
        """Write a trial's estimates on ``report``."""
        _write(self.folder / REPORTS / f"{trial}.json", json.dumps({"report": {k: v.to_plain() for k, v in report.items()}}))

    def verify(self, trial: str, verification: Verification) -> None:
        """Write what a point's artifact was found to be; replaces what was found before the point changed."""
        (self.folder / VERIFIED).mkdir(exist_ok=True)
        _write(self.folder / VERIFIED / f"{trial}.json", verification.to_json())


def _without_record(folder: Path) -> bool:
    """Whether it is a study's folder, with nothing of anybody else's in it, in which no trial has ended."""
    if not folder.is_dir() or any(path.name not in (EXPERIMENT, RECORDS, REPORTS, _PENDING, _LEASE) for path in folder.iterdir()):
        return False
    return not any((folder / RECORDS).glob("*.json"))


def _lease(folder: Path) -> TextIO:
    path = folder / _LEASE
    try:
        while True:
            stream = path.open("a+", encoding="utf-8")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read() or "another process"
                stream.close()
                raise UserError(f"study {folder.name!r} is being written by {holder}; wait for it to end, or choose another --name") from None
            if path.exists() and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                break
            # Its last holder removed the file between our opening and our locking it.
            stream.close()
    except OSError as error:
        raise UserError(f"cannot write the study {folder}: {error.strerror or error}") from error
    stream.truncate(0)
    stream.write(f"process {os.getpid()} on {socket.gethostname()}")
    stream.flush()
    return stream


def _job(path: Path) -> dict[str, Any]:
    try:
        job = json.loads(path.read_text(encoding="utf-8"))
        return {key: job[key] for key in ("id", "recipe", "values", "baseline", "split")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a job under way ({error}); delete it to have another recipe proposed in its place") from error


def _write(path: Path, text: str, *, durably: bool = True) -> None:
    """Whole or not at all; and ``durably``, on the disk when it returns. Only the holder of the lease writes, so nobody else takes ``path`` meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        if durably:
            os.fsync(stream.fileno())
    temporary.replace(path)
    if durably:
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
