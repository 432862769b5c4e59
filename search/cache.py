"""The content-addressed cache of stages on a local disk.

A key is a folder that appears whole or not at all: it is written beside its place and renamed. Each has a manifest with the SHA-256 of every
file, so that a corrupt entry is found, removed and computed again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compressors.errors import UserError

__all__ = ["Cache", "default_root"]

_MANIFEST = "manifest.json"


def default_root() -> Path:
    """``COMPARETO_CACHE``, else ``~/.cache/compareto``."""
    return Path(os.environ.get("COMPARETO_CACHE") or Path.home() / ".cache" / "compareto")


class Cache:
    """Folders by key; safe under concurrent writers of the same key, of which one wins.

    Raises:
        UserError: the root cannot be written.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or default_root()) / "stages"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write the cache {self.root}: {error}; set COMPARETO_CACHE to another folder") from error

    def get(self, key: str) -> Path | None:
        """The folder of ``key``, or None where it is absent or was corrupt."""
        folder = self.root / key[:2] / key
        if not folder.is_dir():
            return None
        try:
            manifest: dict[str, str] = json.loads((folder / _MANIFEST).read_text())
            whole = all(_digest(folder / name) == digest for name, digest in manifest.items())
        except (OSError, ValueError, AttributeError):
            whole = False
        if whole:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        return None

    @contextmanager
    def computing(self, key: str) -> Iterator[None]:
        """Within it no other process of this machine computes ``key``: look it up again, another may just have.

        The lock ends with its process, so that a killed worker blocks nobody.
        """
        path = self.root / key[:2] / f".{key}.lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                # Whoever waits for the removed file finds what was put meanwhile.
                path.unlink(missing_ok=True)

    def put(self, key: str, write: Callable[[Path], None]) -> Path:
        """Store what ``write`` puts into the folder it is given.

        Raises:
            UserError: the disk is full or cannot be written.
        """
        folder = self.root / key[:2] / key
        temporary: str | None = None
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            temporary = tempfile.mkdtemp(prefix=f".{key}-", dir=folder.parent)
            write(Path(temporary))
            manifest = {path.name: _digest(path) for path in sorted(Path(temporary).iterdir())}
            (Path(temporary) / _MANIFEST).write_text(json.dumps(manifest))
            try:
                Path(temporary).rename(folder)
            except OSError:
                # Another writer was first; the contents are the same by construction.
                if not folder.is_dir():
                    raise
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            if temporary is not None:
                shutil.rmtree(temporary, ignore_errors=True)
        return folder

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write the cache {self.root}: {error}; free space or set COMPARETO_CACHE to another folder")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
