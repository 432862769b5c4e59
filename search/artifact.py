"""An artifact folder: a compressed model in its runtime's format, with what it takes to use it and what it promises.

model.onnx        the model
signature.json    inputs, outputs, task, labels, and how raw inputs become model inputs
tokenizer/        of text models
recipe.yaml       what was done to the model; recipe.lock beside it pins what else it depends on
metrics.json      promised figures, of this model and of the uncompressed one
examples.npz      a few inputs with the outputs that are expected
bench.py          latency and correctness on the device itself; needs numpy and the runtime only
provenance.json   study, trial and experiment
README.md         the model card
checksums.json    SHA-256 of every other file
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from compressors.errors import UserError
from evaluators.metric import Estimate
from search.experiment import Experiment
from search.lock import LOCK_NAME, RecipeLock

__all__ = ["ARTIFACT_VERSION", "Artifact", "corrupted", "new_folder", "write_checksums", "write_json"]

ARTIFACT_VERSION = 1
CHECKSUMS = "checksums.json"
SIGNATURE = "signature.json"
METRICS = "metrics.json"
PROVENANCE = "provenance.json"
EXAMPLES = "examples.npz"


@dataclass(frozen=True, slots=True)
class Artifact:
    """An artifact whose files are whole.

    Attributes:
        model: name of the model file.
        signature: see ``signature.json``.
        promised: by metric; quality is of the split ``report``.
        uncompressed: the same figures of the uncompressed model.
        provenance: study, trial, and the experiment as plain data.
        lock: what the model depends on.
    """

    folder: Path
    model: str
    signature: Mapping[str, Any]
    promised: Mapping[str, Estimate]
    uncompressed: Mapping[str, Estimate]
    provenance: Mapping[str, Any]
    lock: RecipeLock

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an artifact; call ``corrupted`` first.

        Raises:
            UserError: a file is not what an artifact has.
        """
        try:
            signature, metrics, provenance = (json.loads((folder / name).read_text(encoding="utf-8")) for name in (SIGNATURE, METRICS, PROVENANCE))
            promised, uncompressed = ({k: Estimate.from_plain(v) for k, v in metrics[part].items()} for part in ("metrics", "uncompressed"))
            return cls(folder, signature["model"], signature, promised, uncompressed, provenance, RecipeLock.load(folder / LOCK_NAME))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{folder} is not an artifact of compareto export: {error}") from error

    def experiment(self) -> Experiment:
        """The experiment that the model comes from; its data may have moved since.

        Raises:
            UserError: it is not valid here, such as one with a device profile that this installation does not have.
        """
        return Experiment.from_plain(self.provenance["experiment"])


def new_folder(out: Path) -> Path:
    """A folder beside ``out`` to write into; it is renamed to ``out`` once it is complete.

    Raises:
        UserError: ``out`` exists and is not an empty folder, or its place cannot be written.
    """
    partial = out.with_name(f".{out.name}.partial")
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"--out: {out} exists and is not empty; accepted: a new or an empty folder")
        if partial.exists():
            raise UserError(f"--out: {partial} is left from an export that was cut off, or still runs; remove it first")
        partial.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"--out: cannot write {out}: {error.strerror}") from error
    return partial


def write_json(path: Path, data: Any) -> None:
    """As indented JSON."""
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_checksums(folder: Path) -> None:
    """Of every file in a folder; the last thing that an export writes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_json(folder / CHECKSUMS, {"artifact_version": ARTIFACT_VERSION, "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in files}})


def corrupted(folder: Path) -> list[str]:
    """What is wrong with the files of an artifact, a line each; none where they are as they were written. Files that were added are not looked at.

    Raises:
        UserError: there is no such folder, it is not an artifact, or one of a newer version.
    """
    path = folder / CHECKSUMS
    if not folder.is_dir():
        raise UserError(f"no artifact {str(folder)!r}; accepted: a folder that compareto export wrote")
    if not path.is_file():
        raise UserError(f"{folder} is not an artifact: it has no {CHECKSUMS}; accepted: a folder that compareto export wrote")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version, files = document["artifact_version"], dict(document["files"])
    except (ValueError, KeyError, TypeError) as error:
        return [f"{CHECKSUMS} cannot be read: {error}"]
    if version != ARTIFACT_VERSION:
        raise UserError(f"{folder} has artifact_version {version!r}; accepted: {ARTIFACT_VERSION}. A newer compareto wrote it")
    problems = [f"{name} is not listed in {CHECKSUMS}" for name in (SIGNATURE, METRICS, PROVENANCE, EXAMPLES, LOCK_NAME) if name not in files]
    for name, expected in files.items():
        file = folder / name
        if not file.resolve().is_relative_to(folder.resolve()):
            problems.append(f"{name} lies outside of the folder")
        elif not file.is_file():
            problems.append(f"{name} is missing")
        elif _sha256(file) != expected:
            problems.append(f"{name} has changed since the export")
    return problems


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
