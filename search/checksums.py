"""The files of an artifact folder, and whether they are as they were written. Needs nothing but Python, so that an artifact is used without torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from compressors.errors import UserError

__all__ = [
    "ARTIFACT_VERSION",
    "CHECKSUMS",
    "EXAMPLES",
    "LADDER",
    "METRICS",
    "PROMISED",
    "PROVENANCE",
    "RAW",
    "SIGNATURE",
    "corrupted",
    "write_checksums",
    "write_json",
]

ARTIFACT_VERSION = 1
CHECKSUMS = "checksums.json"
SIGNATURE = "signature.json"
METRICS = "metrics.json"
PROVENANCE = "provenance.json"
EXAMPLES = "examples.npz"
LADDER = "ladder.json"
PROMISED = "promised.npz"
RAW = "raw"
_NEEDED = (SIGNATURE, METRICS, PROVENANCE, EXAMPLES, "recipe.lock")


def write_json(path: Path, data: Any) -> None:
    """As indented JSON."""
    path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def write_checksums(folder: Path) -> None:
    """Of every file in a folder; the last thing that an export writes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CHECKSUMS)
    write_json(folder / CHECKSUMS, {"artifact_version": ARTIFACT_VERSION, "files": {path.relative_to(folder).as_posix(): _sha256(path) for path in files}})


def corrupted(folder: Path) -> list[str]:
    """What is wrong with the files of an artifact, a line each; none where they are as they were written. Files that were added are not looked at.

    Raises:
        UserError: there is no such folder, or it is not an artifact.
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
        newer = isinstance(version, int) and version > ARTIFACT_VERSION
        return [f"artifact_version {version!r}; accepted: {ARTIFACT_VERSION}{'. A newer compareto wrote it: update compareto' if newer else ''}"]
    needed = (LADDER,) if (folder / LADDER).is_file() else _NEEDED
    problems = [f"{name} is not listed in {CHECKSUMS}" for name in needed if name not in files]
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
