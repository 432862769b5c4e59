"""Entries as folders on a disk, local or mounted."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from compressors.errors import StorageError
from search.cache.entry import LAYOUT, MANIFEST, Entry, Leftover, Manifest, require_layout
from search.cache.locking import locked
from search.cache.size_limit import IN_USE_S, SizeLimit, bytes_of, entry_folders

__all__ = ["Folder"]

_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
_Stamp = tuple[tuple[int, int, int], ...]


class Folder:
    """A key is a folder that appears whole or not at all: it is written beside its place and renamed.

    Its modification time is when it was last used.

    Args:
        root: made where it does not exist.
        limit: bytes; None for no limit.

    Raises:
        StorageError: it cannot be written.
        UserError: it has another version's layout.
    """

    def __init__(self, root: Path, limit: int | None) -> None:
        self.root = root
        self.size = SizeLimit(root, limit, self._discard)
        self._checked: dict[str, _Stamp] = {}
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._settle()
        except OSError as error:
            raise self.unwritable(error) from error
        if not os.access(root, os.W_OK):
            raise self.unwritable(PermissionError(errno.EACCES, "no permission to write, or mounted read-only"))

    def place(self, key: str) -> Path:
        """Where an entry is, or would be."""
        return self.root / key[:2] / key

    def get(self, key: str) -> Path | None:
        """The folder of ``key``, or None where it is absent or was corrupt.

        Raises:
            StorageError: it is there and cannot be read.
        """
        folder = self.place(key)
        try:
            if not folder.is_dir():
                return None
            with suppress(PermissionError):  # of another user's entry on shared storage
                os.utime(folder)
            if self._whole(key, folder):
                return folder
        except OSError as error:
            if not isinstance(error, _GONE) and error.errno != errno.EIO:
                raise StorageError(f"cannot read the cache {folder}: {error.strerror or error}") from error
        self.remove(key)
        return None

    def put(self, key: str, write: Callable[[Path], object], kind: str, model: str) -> Path:
        """Store what ``write`` puts into the folder it is given, all of it or nothing.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        folder = self.place(key)
        temporary = self._beside(folder)
        try:
            temporary.mkdir(parents=True)
            _write(write, temporary)
            manifest = Manifest.of(temporary, kind, model)
            (temporary / MANIFEST).write_text(manifest.to_json())
            if self._renamed(temporary, folder):
                self._checked[key] = _stamp(manifest, folder)
                self.size.add(bytes_of(folder))
        except OSError as error:
            raise self.unwritable(error) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder

    @contextmanager
    def computing(self, key: str) -> Iterator[None]:
        """Hold the lock of ``key``."""
        path = self.root / key[:2] / f".{key}.lock"
        held = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with locked(path):
                held = True
                try:
                    yield
                finally:
                    # Whoever waits for the removed file finds what was put meanwhile.
                    with suppress(OSError):
                        path.unlink()
        except OSError as error:
            # What is raised inside is not about the lock.
            if held:
                raise
            raise self.unwritable(error) from error

    def entries(self) -> Iterator[Entry]:
        """Everything that is stored."""
        for folder in entry_folders(self.root):
            try:
                used = folder.stat().st_mtime
            except FileNotFoundError:
                continue
            try:
                manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
                created = datetime.fromisoformat(manifest.created).timestamp() if manifest.created else used
                yield Entry(folder.name, manifest.kind, manifest.model, created, used, bytes_of(folder))
            except (OSError, ValueError):
                yield Entry(folder.name, "corrupt", "", used, used, bytes_of(folder))

    def fault(self, key: str) -> str:
        """What is wrong with an entry; empty where nothing is. Reads all of it."""
        folder = self.place(key)
        try:
            return Manifest.from_json((folder / MANIFEST).read_bytes()).fault(folder)
        except (OSError, ValueError) as error:
            return f"{MANIFEST}: {error}"

    def remove(self, key: str) -> None:
        """Remove an entry.

        Raises:
            StorageError: it cannot be removed.
        """
        folder = self.place(key)
        size = bytes_of(folder)
        try:
            self._discard(folder)
            self.size.add(-size)
        except OSError as error:
            raise self.unwritable(error) from error

    def leftovers(self) -> Iterator[Leftover]:
        """What writers left that died over an hour ago."""
        for path in self.root.glob("??/.*"):
            if path.suffix == ".upload":  # says what is still to be uploaded
                continue
            try:
                newest = max(p.stat().st_mtime for p in (path, *(path.iterdir() if path.is_dir() else ())))
            except FileNotFoundError:
                continue
            if time.time() - newest > IN_USE_S:
                yield Leftover(str(path), bytes_of(path) if path.is_dir() else 0)

    def sweep(self, leftover: Leftover) -> None:
        """Remove a leftover; a lock that is held stays.

        Raises:
            StorageError: it cannot be removed.
        """
        path = Path(leftover.path)
        try:
            if path.is_dir():
                shutil.rmtree(path)
                return
            with locked(path, wait=False) as ours:
                if ours:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> StorageError:
        """The one message about a disk that does not take what is written."""
        return StorageError(f"cannot write the cache {self.root}: {error.strerror or error}; free space, or set COMPARETO_CACHE (--cache) to another place")

    def _settle(self) -> None:
        path = self.root / "layout"
        if not path.exists():
            temporary = path.with_name(f".layout-{uuid.uuid4().hex}")
            temporary.write_text(f"{LAYOUT}\n")
            temporary.replace(path)
        require_layout(path.read_text(), str(self.root))

    def _whole(self, key: str, folder: Path) -> bool:
        try:
            manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
        except ValueError:
            return False
        stamp = _stamp(manifest, folder)
        # Reading a large entry again only to find that it is as it was takes longer than loading it.
        if self._checked.get(key) != stamp:
            if manifest.fault(folder):
                return False
            self._checked[key] = stamp
        return True

    def _renamed(self, temporary: Path, folder: Path) -> bool:
        """Whether it is now the entry; False where another writer was first, whose contents are the same by construction."""
        try:
            temporary.rename(folder)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            if self.get(folder.name) is not None:
                return False
            # What stood there was corrupt.
            temporary.rename(folder)
        return True

    def _discard(self, folder: Path) -> None:
        """Remove a folder so that nobody finds half of it."""
        gone = self._beside(folder)
        self._checked.pop(folder.name, None)
        with suppress(FileNotFoundError):
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    @staticmethod
    def _beside(folder: Path) -> Path:
        # Not tempfile.mkdtemp: what it makes is its user's alone, and a mounted cache is shared.
        return folder.with_name(f".{folder.name}-{uuid.uuid4().hex[:12]}")


def _write(write: Callable[[Path], object], folder: Path) -> None:
    try:
        write(folder)
    except OSError:
        raise
    except Exception as error:
        # safetensors, written in Rust, has one exception for everything; what the system said stands at its end.
        if said := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(said[1]), os.strerror(int(said[1]))) from error
        raise


def _stamp(manifest: Manifest, folder: Path) -> _Stamp:
    found = [(folder / name).stat() for name in (MANIFEST, *manifest.files)]
    return tuple((s.st_size, s.st_mtime_ns, s.st_ino) for s in found)
