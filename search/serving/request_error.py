"""A request that is answered with an error of its sender's making."""

from __future__ import annotations

import reprlib
from typing import Any

__all__ = ["RequestError", "cut"]

_SHOWN = reprlib.Repr()
_SHOWN.maxstring = _SHOWN.maxother = 60
_SHOWN.maxlist = _SHOWN.maxdict = 3
_SHOWN.maxlevel = 2


def cut(text: str, length: int = 60) -> str:
    """The start of a text that a request chose, so that an answer cannot become as long as the request."""
    return text if len(text) <= length else f"{text[:length]}..."


class RequestError(Exception):
    """A request that is not served.

    Args:
        status: of HTTP, 4xx (5xx where the server itself is at fault).
        message: what is wrong, for people.
        key: which part of the request.
        value: what was found there.
        accepted: what may stand there.
        headers: of the answer.
    """

    def __init__(self, status: int, message: str, *, key: str = "", value: Any = None, accepted: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.key, self.value, self.accepted = status, message, key, value, accepted
        self.headers = headers or {}

    def body(self) -> dict[str, Any]:
        """``{"error": {...}}``; long values are cut."""
        error: dict[str, Any] = {"status": self.status, "message": self.message}
        if self.key:
            error["key"] = self.key
        if self.value is not None:
            # Half of a character (a lone surrogate) is legal in JSON's escapes, and cannot be sent.
            shown = _SHOWN.repr(self.value).encode("utf-8", "backslashreplace").decode()
            error["value"] = shown
        if self.accepted:
            error["accepted"] = self.accepted
        return {"error": error}

    def __reduce__(self) -> tuple[Any, ...]:
        """Travels between processes."""
        return _again, (self.status, self.message, self.key, self.value, self.accepted, self.headers)


def _again(status: int, message: str, key: str, value: Any, accepted: str, headers: dict[str, str]) -> RequestError:
    return RequestError(status, message, key=key, value=value, accepted=accepted, headers=headers)
