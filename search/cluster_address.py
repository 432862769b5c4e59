"""Whether a Ray cluster's address answers: Ray itself retries for many minutes before it says that it does not."""

from __future__ import annotations

import os
import re
import socket

from compressors.errors import UserError

__all__ = ["require_reachable"]

_TIMEOUT_S = 5.0
# Ray's ports speak gRPC, that is HTTP/2: the client's preface with empty settings, which a server answers with its own [RFC9113, 3.4].
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS = 4


def require_reachable(address: str) -> None:
    """Ask ``host:port`` or ``ray://host:port`` whether it speaks gRPC; ``auto`` and ``local`` are left to Ray.

    Raises:
        UserError: not an address, nothing answers there, or something else than Ray does.
    """
    if address in ("auto", "local"):
        return
    match = re.fullmatch(r"(?:ray://)?\[?(?P<host>[^/\]]+)\]?:(?P<port>\d{1,5})", address)
    if match is None or int(match["port"]) > 65535:
        raise UserError(f"--address {address!r} is not an address; accepted: host:port, ray://host:port, auto")
    try:
        with socket.create_connection((match["host"], int(match["port"])), timeout=_TIMEOUT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") not in ("", "0"):
                return
            connection.sendall(_PREFACE)
            answer = connection.recv(4)
    except OSError as error:
        raise UserError(f"--address {address!r}: no Ray cluster can be reached ({error.strerror or error})") from error
    if answer[3:] != bytes((_SETTINGS,)):
        raise UserError(f"--address {address!r}: no Ray cluster can be reached (what answers there is not Ray); the port is 6379 unless it was chosen")
