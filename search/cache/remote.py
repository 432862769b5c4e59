"""Entries as objects in a store of another kind than a folder, such as a bucket.

Files go to ``KEY/PLACE/``, PLACE being each writer's own, and then the manifest, one object that names the place: half an upload is never an entry, and of
two machines that compute the same at once one wins.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from search.cache.entry import LAYOUT, MANIFEST, Entry, Leftover, Manifest, require_layout
from search.cache.size_limit import IN_USE_S
from search.filesystem import open_filesystem, speaking

__all__ = ["Remote"]


class Remote:
    """A store by its URI.

    Raises:
        UserError: no such file system, its package is missing, or the store has another version's layout.
        StorageError: it cannot be written.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._fs, path = open_filesystem(uri)
        self.root = f"{path}/stages"
        with speaking(f"cannot write the cache {self.uri}"):
            try:
                layout = self._fs.cat_file(f"{self.root}/layout")
            except FileNotFoundError:
                layout = f"{LAYOUT}\n".encode()
                self._fs.pipe_file(f"{self.root}/layout", layout)
            else:
                probe = f"{self.root}/probe-{uuid.uuid4().hex}"
                self._fs.pipe_file(probe, b"")
                self._fs.rm_file(probe)
        require_layout(layout.decode(errors="replace"), self.uri)

    def manifest(self, key: str) -> Manifest | None:
        """What an entry is; None where there is none, or where its manifest was broken, and is now removed.

        Raises:
            StorageError: the store does not answer.
        """
        try:
            return self._manifest(key)
        except ValueError:
            self.remove(key)
            return None

    def download(self, key: str, manifest: Manifest, folder: Path) -> None:
        """Copy an entry's files into a folder.

        Raises:
            ValueError: one is missing or not what the manifest says.
            StorageError: the store does not answer.
        """
        # A file that is missing there is missing here.
        with speaking(f"cannot read the cache {self.uri}"), suppress(FileNotFoundError):
            for name in manifest.files:
                self._fs.get_file(f"{self._at(key)}/{manifest.place}/{name}", str(folder / name))
        if fault := manifest.fault(folder):
            raise ValueError(fault)

    def store(self, key: str, folder: Path) -> None:
        """Upload an entry.

        Raises:
            StorageError: the store is full, refuses, or does not answer.
        """
        manifest = replace(Manifest.from_json((folder / MANIFEST).read_bytes()), place=uuid.uuid4().hex[:12])
        with speaking(f"cannot write the cache {self.uri}"):
            for name in manifest.files:
                self._fs.put_file(str(folder / name), f"{self._at(key)}/{manifest.place}/{name}")
            self._fs.pipe_file(f"{self._at(key)}/{MANIFEST}", manifest.to_json().encode())

    def entries(self) -> Iterator[Entry]:
        """Everything that is stored."""
        for key, files in self._listing().items():
            if MANIFEST not in files:
                continue
            try:
                manifest = self._manifest(key)
            except ValueError:
                yield Entry(key, "corrupt", "", 0.0, 0.0, sum(count for count, _ in files.values()))
                continue
            if manifest is not None:
                created = datetime.fromisoformat(manifest.created).timestamp()
                size = sum(count for name, (count, _) in files.items() if name.startswith(f"{manifest.place}/"))
                yield Entry(key, manifest.kind, manifest.model, created, created, size)

    def fault(self, key: str) -> str:
        """What is wrong with an entry; empty where nothing is. Downloads it."""
        with TemporaryDirectory(prefix="compareto-verify-") as folder:
            try:
                manifest = self._manifest(key)
                if manifest is not None:
                    self.download(key, manifest, Path(folder))
            except ValueError as error:
                return str(error)
        return "" if manifest is not None else f"{MANIFEST} is missing"

    def remove(self, key: str) -> None:
        """Remove an entry, the manifest first.

        Raises:
            StorageError: it cannot be removed.
        """
        try:
            manifest = self._manifest(key)
            place = f"/{manifest.place}" if manifest else ""
        except ValueError:
            place = ""
        with speaking(f"cannot write the cache {self.uri}"):
            with suppress(FileNotFoundError):
                self._fs.rm_file(f"{self._at(key)}/{MANIFEST}")
            with suppress(FileNotFoundError):
                self._fs.rm(self._at(key) + place, recursive=True)

    def leftovers(self) -> Iterator[Leftover]:
        """What uploads left that died over an hour ago, or lost against another of the same key."""
        for key, files in self._listing().items():
            try:
                manifest = self._manifest(key) if MANIFEST in files else None
            except ValueError:
                continue  # corrupt, and an entry's
            by_place: dict[str, list[tuple[int, float]]] = {}
            for name, found in files.items():
                if "/" in name:
                    by_place.setdefault(name.partition("/")[0], []).append(found)
            for place, objects in by_place.items():
                if (manifest is None or place != manifest.place) and time.time() - max(when for _, when in objects) > IN_USE_S:
                    yield Leftover(f"{self._at(key)}/{place}", sum(count for count, _ in objects))

    def sweep(self, leftover: Leftover) -> None:
        """Remove a leftover."""
        with speaking(f"cannot write the cache {self.uri}"):
            self._fs.rm(leftover.path, recursive=True)

    def _at(self, key: str) -> str:
        return f"{self.root}/{key[:2]}/{key}"

    def _manifest(self, key: str) -> Manifest | None:
        """None where there is none; ValueError where it is broken."""
        with speaking(f"cannot read the cache {self.uri}"):
            try:
                content = self._fs.cat_file(f"{self._at(key)}/{MANIFEST}")
            except FileNotFoundError:
                return None
        return Manifest.from_json(content)

    def _listing(self) -> dict[str, dict[str, tuple[int, float]]]:
        """Size and time of each object, by its name below its key, by key. What the store does not date is taken as new."""
        with speaking(f"cannot read the cache {self.uri}"):
            self._fs.invalidate_cache()
            try:
                found = self._fs.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
        keys: dict[str, dict[str, tuple[int, float]]] = {}
        for path, about in found.items():
            parts = path.removeprefix(self.root).strip("/").split("/", 2)
            if len(parts) == 3:
                keys.setdefault(parts[1], {})[parts[2]] = (int(about["size"] or 0), _time_of(about))
        return keys


def _time_of(about: dict[str, object]) -> float:
    when = next((about[name] for name in ("LastModified", "last_modified", "updated", "mtime", "created") if about.get(name) is not None), None)
    if isinstance(when, datetime):
        return when.timestamp()
    if isinstance(when, str):
        return datetime.fromisoformat(when).timestamp()
    return float(when) if isinstance(when, int | float) else time.time()
