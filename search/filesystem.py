"""Other file systems than folders, by URI: what fsspec knows, with one clear error each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from compressors.errors import StorageError, UserError, near_miss

__all__ = ["open_filesystem", "speaking"]


def open_filesystem(uri: str) -> tuple[Any, str]:
    """The file system of a URI, and the path in it.

    Raises:
        UserError: no such file system, or its package is not installed.
    """
    import fsspec  # type: ignore[import-untyped]  # ships no types
    from fsspec.registry import known_implementations  # type: ignore[import-untyped]

    protocol = uri.partition("://")[0]
    if protocol not in fsspec.available_protocols():
        raise UserError(f"{uri!r}: no file system {protocol!r}; accepted: file, s3, gs, az and others of fsspec{near_miss(protocol, known_implementations)}")
    try:
        # Objects need no folders; the local one, by which the others are tested, does.
        filesystem, path = fsspec.core.url_to_fs(uri, **({"auto_mkdir": True} if protocol == "local" else {}))
    except ImportError as error:
        package = known_implementations[protocol]["class"].partition(".")[0] if protocol in known_implementations else "fsspec"
        raise UserError(f"{uri!r} needs a package that is not installed: {f'pip install {package}' if package != 'fsspec' else error}") from error
    except Exception as error:
        # Each file system has its own way to refuse what stands behind its protocol.
        raise UserError(f"{uri!r}: {error}") from error
    return filesystem, str(path).rstrip("/")


@contextmanager
def speaking(what: str) -> Iterator[None]:
    """Whatever a file system raises within as one error: ``what``, and why.

    Raises:
        StorageError: full, refused or not reachable.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # Credentials, endpoints and time limits have exceptions of each file system's own.
        said = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
        raise StorageError(f"{what}: {said}") from error
