"""Whether a Ray cluster's address answers: Ray itself retries for many minutes before it says that it does not."""

from __future__ import annotations

import re
import socket

from compressors.errors import UserError

__all__ = ["require_reachable"]

_TIMEOUT_S = 5.0


def require_reachable(address: str) -> None:
    """Open and close one TCP connection to ``host:port`` or ``ray://host:port``; ``auto`` and ``local`` are left to Ray.

    Raises:
        UserError: not an address, or nothing answers there.
    """
    if address in ("auto", "local"):
        return
    match = re.fullmatch(r"(?:ray://)?\[?(?P<host>[^/\]]+)\]?:(?P<port>\d{1,5})", address)
    if match is None or int(match["port"]) > 65535:
        raise UserError(f"--address {address!r} is not an address; accepted: host:port, ray://host:port, auto")
    try:
        socket.create_connection((match["host"], int(match["port"])), timeout=_TIMEOUT_S).close()
    except OSError as error:
        raise UserError(f"--address {address!r}: no Ray cluster can be reached ({error.strerror or error})") from error
