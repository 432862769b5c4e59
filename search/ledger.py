"""A study's folder as its one writer sees it: immutable records, what is under way, and the lease."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import Any, Self

import yaml

from compressors.errors import StorageError, UserError
from evaluators.metric import Estimate
from search.experiment import Experiment
from search.job import Job, read_job
from search.mirror import Mirror
from search.record import TrialRecord
from search.study_files import EXPERIMENT, GRAPH, GRAPHS, RECORDS, REPLICATES, REPORTS, STUDY, VERIFIED, read_records
from search.verification import Verification
from search.yaml_text import read_yaml

__all__ = ["Ledger"]

_PENDING = "pending"
_LEASE = "lease"


class Ledger:
    """Open with ``Ledger.create`` or ``Ledger.resume``; ``close`` gives the lease back.

    The lease is a lock on a file, which ends with its process: a killed search blocks nobody.
    """

    def __init__(self, folder: Path, mirror: Mirror | None = None) -> None:
        self.folder, self._mirror = folder, mirror
        self._held = _lease(folder)

    @classmethod
    def create(cls, folder: Path, experiment: Experiment, mirror: Mirror | None = None) -> Self:
        """A new study. What a start that failed left behind under this name, a study without any record, is taken over.

        Args:
            folder: of the study.
            experiment: what is searched.
            mirror: of a study in an object store, of which ``folder`` is this machine's copy.

        Raises:
            UserError: it exists, or another process writes it.
            StorageError: it cannot be written.
        """
        with _begun(mirror):
            return cls._created(folder, experiment, mirror)

    @classmethod
    def _created(cls, folder: Path, experiment: Experiment, mirror: Mirror | None) -> Self:
        if folder.exists() and not _without_record(folder):
            raise UserError(f"study {folder.name!r} exists in {folder.parent}; choose another --name, or continue it with --resume")
        try:
            for part in (RECORDS, REPORTS, _PENDING):
                (folder / part).mkdir(parents=True, exist_ok=True)
            ledger = cls(folder, mirror)
            for path in (folder / _PENDING).iterdir():
                ledger._remove(f"{_PENDING}/{path.name}")
            ledger._write(EXPERIMENT, experiment.to_yaml())
        except OSError as error:
            raise _unwritable(folder, error) from error
        return ledger

    @classmethod
    def resume(cls, folder: Path, experiment: Experiment, mirror: Mirror | None = None) -> Self:
        """An existing study of the same experiment.

        Args:
            folder: of the study.
            experiment: the same as before, but for its budget and resources.
            mirror: see ``create``.

        Raises:
            UserError: there is none, it is another experiment's, or another process writes it.
            StorageError: it cannot be written.
        """
        with _begun(mirror):
            return cls._resumed(folder, experiment, mirror)

    @classmethod
    def _resumed(cls, folder: Path, experiment: Experiment, mirror: Mirror | None) -> Self:
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
        return cls(folder, mirror)

    def close(self) -> None:
        """Give the lease back."""
        if not self._held.closed:
            (self.folder / _LEASE).unlink(missing_ok=True)
            self._held.close()
            if self._mirror is not None:
                self._mirror.end()

    def discard(self) -> None:
        """Close, and remove a study whose start failed; one that has a record stays."""
        if not self._held.closed and _without_record(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)
            self._held.close()
            if self._mirror is not None:
                self._mirror.discard()
        self.close()

    def records(self) -> tuple[TrialRecord, ...]:
        """Every terminal record."""
        return read_records(self.folder)

    def pending(self) -> list[Job]:
        """Jobs that were started and have no record, oldest first.

        Raises:
            UserError: the file of one is not valid; names it.
        """
        done = {path.name for path in (self.folder / RECORDS).glob("*.json")}
        return [_job(path) for path in sorted((self.folder / _PENDING).glob("*.json")) if path.name not in done]

    def start(self, job: Mapping[str, Any]) -> None:
        """Note that a job is under way, so that a resume runs the same recipe under the same id.

        Not synced: it outlives its process, and where the machine itself stops another recipe is proposed in its place.

        Raises:
            StorageError: it cannot be written.
        """
        self._write(f"{_PENDING}/{job['id']}.json", json.dumps(dict(job)), durably=False)

    def finish(self, record: TrialRecord) -> None:
        """Write a terminal record, durably, once.

        Raises:
            StorageError: it cannot be written; the job stays under way.
        """
        name = f"{RECORDS}/{record.id}.json"
        if (self.folder / name).exists():
            raise FileExistsError(f"trial {record.id} has its record")
        self._write(name, record.to_json())
        self._remove(f"{_PENDING}/{record.id}.json")

    def publish(self, trial: str, report: Mapping[str, Estimate], examples: Mapping[str, str] | None = None) -> None:
        """Write a trial's estimates on ``report``, and what each example contributed to the main one, packed."""
        self._write(f"{REPORTS}/{trial}.json", json.dumps({"report": {k: v.to_plain() for k, v in report.items()}, "examples": dict(examples or {})}))

    def replicate(self, record: TrialRecord, report: Mapping[str, Estimate]) -> None:
        """Write the record of a replicate, whose quality is on ``report``."""
        costs = {name: value for name, value in record.metrics.items() if name not in report}
        self._write(f"{REPLICATES}/{record.id}.json", dataclasses.replace(record, metrics=costs, report=dict(report)).to_json())

    def describe(self, identity: Mapping[str, Any], graph: str) -> None:
        """Write what the study is of, and its traced model, unless that was done before."""
        if not (self.folder / STUDY).is_file():
            self._write(GRAPH, graph)
            self._write(STUDY, json.dumps(dict(identity), indent=1, sort_keys=True))

    def keep_graph(self, label: str, graph: Callable[[], str]) -> None:
        """Write the traced model at another size of inputs, unless it is there."""
        if not (self.folder / GRAPHS / f"{label}.json").is_file():
            self._write(f"{GRAPHS}/{label}.json", graph())

    def verify(self, trial: str, verification: Verification) -> None:
        """Write what a point's artifact was found to be; replaces what was found before the point changed."""
        self._write(f"{VERIFIED}/{trial}.json", verification.to_json())

    def _write(self, name: str, text: str, *, durably: bool = True) -> None:
        try:
            (self.folder / name).parent.mkdir(exist_ok=True)
            _write(self.folder / name, text, durably=durably)
        except OSError as error:
            raise _unwritable(self.folder, error) from error
        if self._mirror is not None:
            self._mirror.put(name)

    def _remove(self, name: str) -> None:
        (self.folder / name).unlink(missing_ok=True)
        if self._mirror is not None:
            self._mirror.remove(name)


@contextmanager
def _begun(mirror: Mirror | None) -> Iterator[None]:
    """Hold a mirror's lease; give it back where the study is not opened after all."""
    if mirror is not None:
        mirror.begin()
    try:
        yield
    except BaseException:
        if mirror is not None:
            mirror.end()
        raise


def _without_record(folder: Path) -> bool:
    """Whether it is a study's folder, with nothing of anybody else's in it, in which no trial has ended."""
    if not folder.is_dir() or any(path.name not in (EXPERIMENT, GRAPH, GRAPHS, STUDY, RECORDS, REPORTS, _PENDING, _LEASE) for path in folder.iterdir()):
        return False
    return not any((folder / RECORDS).glob("*.json"))


def _unwritable(folder: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write the study {folder}: {error.strerror or error}; what it has finished is kept: make room, then continue it with --resume")


def _lease(folder: Path) -> RawIOBase:
    path = folder / _LEASE
    try:
        while True:
            stream = path.open("a+b", buffering=0)
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().decode() or "another process"
                stream.close()
                raise UserError(f"study {folder.name!r} is being written by {holder}; wait for it to end, or choose another --name") from None
            if path.exists() and os.path.samestat(path.stat(), os.fstat(stream.fileno())):
                break
            # Its last holder removed the file between our opening and our locking it.
            stream.close()
    except OSError as error:
        raise _unwritable(folder, error) from error
    with suppress(OSError):  # the lock is what counts; the text, for which a full disk has no place, only says whose it is
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
    return stream


def _job(path: Path) -> Job:
    try:
        return read_job(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, UserError) as error:
        raise UserError(f"{path} is not a job under way ({error}); delete it to have another recipe proposed in its place") from error


def _write(path: Path, text: str, *, durably: bool = True) -> None:
    """Whole or not at all; and ``durably``, on the disk when it returns. Only the holder of the lease writes, so nobody else takes ``path`` meanwhile."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            if durably:
                os.fsync(stream.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durably:
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
