"""The objects of a study that lies in an object store, and a copy of them for readers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from compressors.errors import StorageError, UserError
from evaluators.cache_folder import DEFAULT_CACHE
from search.cache.locking import locked
from search.filesystem import open_filesystem, speaking

__all__ = ["LEASE", "StudyObjects", "fetch_study", "home_of"]

LEASE = "lease.json"
_LARGE = ("artifacts",)


class StudyObjects:
    """One study's objects, by their names in its folder.

    Raises:
        UserError: no such file system, or its package is missing.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self.fs, self.root = open_filesystem(self.uri)

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        with speaking(f"cannot read the study {self.uri}"):
            try:
                content: bytes = self.fs.cat_file(f"{self.root}/{name}")
            except FileNotFoundError:
                return None
            return content

    def write(self, name: str, content: bytes) -> None:
        """Whole, in one request."""
        with speaking(f"cannot write the study {self.uri}"):
            self.fs.pipe_file(f"{self.root}/{name}", content)

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        with speaking(f"cannot write the study {self.uri}"), suppress(FileNotFoundError):
            self.fs.rm_file(f"{self.root}/{name}")

    def sizes(self) -> dict[str, int]:
        """Bytes of each object but the lease, by name."""
        with speaking(f"cannot read the study {self.uri}"):
            self.fs.invalidate_cache()
            try:
                found = self.fs.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
        sizes = {path.removeprefix(self.root).lstrip("/"): int(about["size"] or 0) for path, about in found.items()}
        sizes.pop(LEASE, None)
        return sizes

    def download(self, names: Iterable[str], folder: Path) -> None:
        """Copy objects into a folder."""
        names = list(names)
        if not names:
            return
        for parent in {(folder / name).parent for name in names}:
            parent.mkdir(parents=True, exist_ok=True)
        with speaking(f"cannot read the study {self.uri}"):
            # Of many objects at once, which some file systems fetch side by side.
            self.fs.get([f"{self.root}/{name}" for name in names], [str(folder / name) for name in names])

    def clear(self) -> None:
        """Remove all of them."""
        with speaking(f"cannot write the study {self.uri}"), suppress(FileNotFoundError):
            self.fs.rm(self.root, recursive=True)


def fetch_study(uri: str) -> Path:
    """A copy, on this machine, of what reading a study needs, as it is now; also of one that is being written.

    Raises:
        UserError: there is none.
        StorageError: the store cannot be read.
    """
    objects = StudyObjects(uri)
    home = home_of("read", objects.uri)
    folder = home / objects.uri.rpartition("/")[2]
    try:
        home.mkdir(parents=True, exist_ok=True)
        with locked(home / "lock"):
            found = {name: size for name, size in objects.sizes().items() if not name.startswith(_LARGE)}
            if "experiment.yaml" not in found:
                raise UserError(f"no study {uri!r}: it has no experiment.yaml")
            for path in folder.rglob("*.json"):
                if path.relative_to(folder).as_posix() not in found:
                    path.unlink()
            (folder / "records").mkdir(parents=True, exist_ok=True)
            # Records never change once they are written.
            objects.download((n for n, size in found.items() if not (n.startswith("records/") and _size(folder / n) == size)), folder)
    except OSError as error:
        raise StorageError(f"cannot write {folder}, a copy of {uri}: {error.strerror or error}") from error
    return folder


def home_of(kind: str, uri: str) -> Path:
    """Where this machine keeps its copy: ``studies`` of a writer, ``read`` of a reader."""
    return Path(DEFAULT_CACHE).expanduser() / kind / hashlib.sha256(uri.encode()).hexdigest()[:16]


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
