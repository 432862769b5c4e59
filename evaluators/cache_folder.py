"""Where this machine keeps what it need not compute again."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from compressors.errors import UserError

__all__ = ["DEFAULT_CACHE", "cache_folder", "local_folder"]

DEFAULT_CACHE = "~/.cache/compareto"


def cache_folder() -> Path:
    """The folder that ``COMPARETO_CACHE`` names, else ``~/.cache/compareto``.

    There too where it names an object store: calibrations are of one machine.

    Raises:
        UserError: ``COMPARETO_CACHE`` is neither a folder nor a URI.
    """
    return local_folder(os.environ.get("COMPARETO_CACHE") or DEFAULT_CACHE) or Path(DEFAULT_CACHE).expanduser()


def local_folder(location: str | Path) -> Path | None:
    """The folder, absolute, that a path or a ``file://`` URI names; None for a URI of another file system.

    Raises:
        UserError: a URI that is none.
    """
    text = str(location)
    if isinstance(location, Path) or "://" not in text:
        if mistaken := re.match(r"(file|s3|s3a|gs|gcs|abfs|az|hdfs|memory):/?", text):
            raise UserError(f"{text!r} is not a URI; did you mean {mistaken[1] + '://' + text[mistaken.end() :]!r}?")
        return Path(location).expanduser().absolute()
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise UserError(f"{text!r} is not a URI; accepted: a folder, file:///FOLDER, s3://BUCKET/PREFIX and the like")
    if not text.startswith("file://"):
        return None
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or not parts.path.strip("/"):
        raise UserError(f"{text!r} names no folder of this machine; accepted: file:///FOLDER, with three slashes")
    return Path(unquote(parts.path))
