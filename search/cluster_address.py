"""Whether a Ray cluster's address answers: Ray itself retries for many minutes before it says that it does not."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping

from compressors.errors import UserError

__all__ = ["address_of", "require_reachable"]

_TIMEOUT_S = 5.0
# Ray's ports speak gRPC, that is HTTP/2: the client's preface with empty settings, which a server answers with its own [RFC9113, 3.4].
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
_SETTINGS = 4


def address_of(address: str | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Of the cluster to run on: the one that is named, inside a job the job's own, else None; ``local`` is Ray started here, as None is."""
    if address == "local":
        return None
    return address or (environment.get("RAY_ADDRESS") if "RAY_JOB_CONFIG_JSON_ENV_VAR" in environment else None)


def require_reachable(address: str) -> None:
    """Ask ``host:port`` whether it speaks gRPC; ``auto`` is left to Ray.

    Raises:
        UserError: not an address, or Ray Client's; nothing answers there, or something else than Ray does.
    """
    if address == "auto":
        return
    if address.startswith("ray://"):
        # Behind it Tune itself would run on the cluster, away from the study that it asks for trials.
        raise UserError(f"--address {address!r}: searches do not run through Ray Client; accepted: host:port from a node of the cluster, or ray job submit")
    match = re.fullmatch(r"\[?(?P<host>[^/\]]+)\]?:(?P<port>\d{1,5})", address)
    if match is None or int(match["port"]) > 65535:
        raise UserError(f"--address {address!r} is not an address; accepted: host:port, auto, local")
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
