"""The cache as stages use it: get, put, and one that computes while others wait."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from evaluators.cache_folder import DEFAULT_CACHE, local_folder
from search.cache.entry import Entry, Leftover
from search.cache.folder import Folder
from search.cache.remote import Remote
from search.quantities import parse_bytes

__all__ = ["DEFAULT_LIMIT", "Cache", "Store"]

DEFAULT_LIMIT = "20GB"
"""Two searches of 48 trials with two training stages each, of a model of 90 MB; a model of 16,000 parameters never comes near it."""


class Store(Protocol):
    """What a listing or a check needs of a place where entries are."""

    def entries(self) -> Iterator[Entry]:
        """Everything that is stored."""
        ...

    def fault(self, key: str) -> str:
        """What is wrong with an entry; empty where nothing is. Reads all of it."""
        ...

    def remove(self, key: str) -> None:
        """Remove an entry."""
        ...

    def leftovers(self) -> Iterator[Leftover]:
        """What writers left that died over an hour ago."""
        ...

    def sweep(self, leftover: Leftover) -> None:
        """Remove a leftover."""
        ...


class Cache:
    """Folders by key; safe under concurrent writers of the same key, of which one wins.

    Args:
        location: a folder or a URI; ``COMPARETO_CACHE`` where None, else ``~/.cache/compareto``. ``file://`` and mounted folders are used as they are; any
            other file system that fsspec opens stands behind a folder of its own in ``~/.cache/compareto``: what this machine has is not downloaded again.
        limit: of the folder, such as ``20GB``, or ``none``; ``COMPARETO_CACHE_LIMIT`` where None. Least recently used entries go first, never one
            that was used within the last hour. An object store has no limit of ours: see ``compareto cache prune``, or its own rules.

    Raises:
        UserError: no such place, a package that opens it is missing, or it has another version's layout.
        StorageError: it cannot be written.
    """

    def __init__(self, location: str | Path | None = None, limit: str | None = None) -> None:
        given = location if location is not None else os.environ.get("COMPARETO_CACHE") or DEFAULT_CACHE
        self.limit_text = os.environ.get("COMPARETO_CACHE_LIMIT") or DEFAULT_LIMIT if limit is None else limit
        self.limit = None if self.limit_text.lower() == "none" else parse_bytes(self.limit_text, "COMPARETO_CACHE_LIMIT")
        folder = local_folder(given)
        self.location = str(given).rstrip("/") if folder is None else str(folder)
        self._remote = Remote(self.location) if folder is None else None
        self._folder = Folder((folder or _tier(self.location)) / "stages", self.limit)
        self.root = self._folder.root
        self.stores: dict[str, Store] = {str(self.root): self._folder}
        if self._remote is not None:
            self.stores[self.location] = self._remote

    def get(self, key: str) -> Path | None:
        """The folder of ``key``, or None where it is absent or was corrupt. Its files stay for an hour at least.

        Raises:
            StorageError: the place cannot be read.
        """
        found = self._folder.get(key)
        if self._remote is None:
            return found
        if found is not None:
            if self._waiting(key).exists():
                self._upload(key, found)
            return found
        manifest = self._remote.manifest(key)
        if manifest is None:
            return None
        remote = self._remote
        try:
            return self._folder.put(key, lambda folder: remote.download(key, manifest, folder), manifest.kind, manifest.model)
        except ValueError:
            remote.remove(key)
            return None

    def put(self, key: str, write: Callable[[Path], object], *, kind: str, model: str) -> Path:
        """Store what ``write`` puts into the folder it is given.

        Args:
            key: of the stage.
            write: makes the files.
            kind: the stage's name, for people.
            model: as the experiment names it.

        Raises:
            StorageError: the place is full or cannot be written.
        """
        if self._remote is None:
            return self._folder.put(key, write, kind, model)
        waiting = self._waiting(key)
        try:
            # Before the entry is there: who dies between the two leaves word that it is to be uploaded.
            waiting.parent.mkdir(parents=True, exist_ok=True)
            waiting.touch()
        except OSError as error:
            raise self._folder.unwritable(error) from error
        folder = self._folder.put(key, write, kind, model)
        self._upload(key, folder)
        return folder

    def computing(self, key: str) -> AbstractContextManager[None]:
        """Within it no other process computes ``key``: look it up again, another may just have.

        Of this machine, or of all that share a mounted folder with locks; object stores have none, so that two machines may compute the same at once, and
        one wins. The lock ends with its process: a killed worker blocks nobody.
        """
        return self._folder.computing(key)

    @property
    def settings(self) -> tuple[str, str]:
        """Arguments of the same cache in another process."""
        return self.location, self.limit_text

    @property
    def complaint(self) -> str:
        """One line where the limit cannot be kept, because everything was used within the last hour; else empty."""
        if not self._folder.size.overfull:
            return ""
        return f"the cache {self.root} holds more than COMPARETO_CACHE_LIMIT={self.limit_text}: all of it was used within the last hour"

    def _upload(self, key: str, folder: Path) -> None:
        assert self._remote is not None
        self._remote.store(key, folder)
        self._waiting(key).unlink(missing_ok=True)

    def _waiting(self, key: str) -> Path:
        return self.root / key[:2] / f".{key}.upload"


def _tier(uri: str) -> Path:
    """This machine's folder before an object store."""
    return Path(DEFAULT_CACHE).expanduser() / "remote" / hashlib.sha256(uri.encode()).hexdigest()[:16]
