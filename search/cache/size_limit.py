"""A limit to what a folder of entries holds: the least recently used go first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from search.cache.locking import locked

__all__ = ["IN_USE_S", "SizeLimit", "bytes_of", "entry_folders"]

IN_USE_S = 3600.0
"""What was used within the last hour may still be read."""

_LOW = 0.9
"""How full, of the limit, the folder is left, so that not every stage that is put has to make room for itself."""

_AGAIN_S = 300.0


class SizeLimit:
    """Counts bytes in one small file, so that nothing is walked until the limit is reached; a walk corrects what killed writers did not count.

    Args:
        root: folder of entries.
        limit: bytes; None for no limit.
        remove: removes one entry's folder.
    """

    def __init__(self, root: Path, limit: int | None, remove: Callable[[Path], None]) -> None:
        self.root, self.limit, self._remove = root, limit, remove
        self._overfull = root / "overfull"

    def add(self, count: int) -> None:
        """Count bytes that came (or went, below 0), and make room where they are too many."""
        with locked(self.root / "usage.lock"):
            counted = self._read()
            # The walk that makes the first count has seen what is added.
            total = sum(map(bytes_of, entry_folders(self.root))) if counted is None else max(0, counted + count)
            self._write(total)
        if count > 0 and self.limit is not None and total > self.limit:
            self._make_room(self.limit)

    @property
    def overfull(self) -> bool:
        """Whether the limit could not be kept when it was last tried, because everything was in use."""
        return self._overfull.exists()

    def _make_room(self, limit: int) -> None:
        now = time.time()
        if now - (_changed(self._overfull) or 0) < _AGAIN_S:
            return
        with locked(self.root / "evict.lock", wait=False) as ours:
            if not ours:
                return
            found = sorted((used, bytes_of(folder), folder) for folder in entry_folders(self.root) if (used := _changed(folder)) is not None)
            total = sum(size for _, size, _ in found)
            for used, size, folder in found:
                if total <= _LOW * limit or now - used < IN_USE_S:
                    break
                # Whoever has taken it up since then has said so before reading it.
                if _changed(folder) == used:
                    self._remove(folder)
                    total -= size
            with locked(self.root / "usage.lock"):
                self._write(total)
            if total > limit:
                self._overfull.touch()
            else:
                self._overfull.unlink(missing_ok=True)

    def _read(self) -> int | None:
        try:
            return int((self.root / "usage").read_text())
        except (FileNotFoundError, ValueError):
            return None

    def _write(self, total: int) -> None:
        # In place, and always as long: a disk that is full has room for it.
        descriptor = os.open(self.root / "usage", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            os.write(descriptor, f"{total:020d}".encode())
        finally:
            os.close(descriptor)


def entry_folders(root: Path) -> list[Path]:
    """The folder of each entry."""
    return [folder for shard in root.glob("??") for folder in _listed(shard) if not folder.name.startswith(".")]


def bytes_of(folder: Path) -> int:
    """Of the files in a folder; 0 where it has gone or may not be read."""
    count = 0
    try:
        with os.scandir(folder) as files:
            for file in files:
                count += file.stat().st_size
    except (FileNotFoundError, PermissionError):
        pass
    return count


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
