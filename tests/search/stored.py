"""Entries of a cache as tests make, age and damage them."""

import os
import time
from pathlib import Path

from search.cache import Cache


def put(cache: Cache, key: str, text: str = "1", kind: str = "prune") -> Path:
    return cache.put(key, lambda folder: (folder / "x").write_text(text), kind=kind, model="models.py:cnn")


def age(folder: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(folder, (then, then))


def truncated(folder: Path) -> None:
    (folder / "x").write_text("12")


def changed(folder: Path) -> None:
    (folder / "x").write_text("124")


def missing(folder: Path) -> None:
    (folder / "x").unlink()


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def _broken_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": {"x": 5')


def _other_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"files": [1]}')


def _folder_for_file(folder: Path) -> None:
    (folder / "x").unlink()
    (folder / "x").mkdir()


DAMAGES = [truncated, changed, missing, _no_manifest, _broken_manifest, _other_manifest, _folder_for_file]
