"""What an entry of the cache is: its manifest, which says what each file holds, and its place in a listing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

__all__ = ["LAYOUT", "MANIFEST", "Entry", "File", "Leftover", "Manifest", "require_layout"]

MANIFEST = "manifest.json"
LAYOUT = 2
"""Layout 1 had no number, and manifests of ``{file: digest}``; it is read as it is."""


@dataclass(frozen=True, slots=True)
class File:
    """One file: SHA-256 and size; -1 where layout 1 did not say."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the files of an entry are.

    Attributes:
        kind: the stage's name, such as ``distill``, ``evaluate`` or ``failed distill``.
        model: as the experiment names it.
        created: UTC, ISO 8601.
        files: by name; a folder's manifest does not list itself.
        place: in an object store, the name below the key under which this writer has put the files.
    """

    kind: str
    model: str
    created: str
    files: Mapping[str, File]
    place: str = ""

    @classmethod
    def of(cls, folder: Path, kind: str, model: str) -> Self:
        """Of the files in a folder, now."""
        files = {path.name: File(digest(path), path.stat().st_size) for path in sorted(folder.iterdir())}
        return cls(kind, model, datetime.now(UTC).isoformat(timespec="seconds"), files)

    def to_json(self) -> str:
        """The reverse of ``from_json``."""
        files = {name: {"sha256": file.sha256, "bytes": file.bytes} for name, file in self.files.items()}
        return json.dumps({"kind": self.kind, "model": self.model, "created": self.created, "place": self.place, "files": files})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read it.

        Raises:
            ValueError: not a manifest.
        """
        try:
            data = json.loads(text)
            if "files" not in data:
                return cls("unknown", "", "", {str(name): File(str(value), -1) for name, value in data.items()})
            files = {str(name): File(str(file["sha256"]), int(file["bytes"])) for name, file in data["files"].items()}
            return cls(str(data["kind"]), str(data["model"]), str(data["created"]), files, str(data["place"]))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a manifest: {error}") from error

    def fault(self, folder: Path) -> str:
        """What is wrong with the files in a folder; empty where nothing is. Reads each of them."""
        for name, file in self.files.items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            found = path.stat().st_size
            if file.bytes not in (found, -1):
                return f"{name} has {found} of {file.bytes} bytes"
            if digest(path) != file.sha256:
                return f"{name} was changed"
        return ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry in a listing.

    Attributes:
        key: of the stage.
        kind, model: see ``Manifest``; ``corrupt`` where the manifest cannot be read.
        created, used: seconds since the epoch; an object store does not know when an entry was used: then as created.
        bytes: of its files.
    """

    key: str
    kind: str
    model: str
    created: float
    used: float
    bytes: int


@dataclass(frozen=True, slots=True)
class Leftover:
    """What a writer that died has left: no entry, and nobody's any more. ``path`` is as its store names it."""

    path: str
    bytes: int


def digest(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def require_layout(text: str, place: str) -> None:
    """Check what a cache's layout file says.

    Raises:
        UserError: it is another version's.
    """
    from compressors.errors import UserError

    if text.strip() != str(LAYOUT):
        raise UserError(
            f"the cache {place} has layout {text.strip()[:20]!r}, this version of compareto reads layout {LAYOUT}; "
            "set COMPARETO_CACHE (or --cache) to another place, or use the version that wrote it"
        )
