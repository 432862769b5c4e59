"""The raw inputs that lie in an artifact, texts or images. Needs nothing but Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from search.checksums import RAW

__all__ = ["TEXTS", "read_raw"]

TEXTS = "texts.json"


def read_raw(folder: Path) -> list[Any]:
    """Texts, or images as encoded bytes; empty where the artifact has none."""
    place = folder / RAW
    if (place / TEXTS).is_file():
        return list(json.loads((place / TEXTS).read_text(encoding="utf-8")))
    return [path.read_bytes() for path in sorted(place.glob("*.png"), key=lambda path: int(path.stem))] if place.is_dir() else []
