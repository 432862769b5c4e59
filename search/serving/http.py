"""An ASGI application behind a socket, in a thread of this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

__all__ = ["listened_to"]

_BACKLOG = 2048


@contextmanager
def listened_to(application: Any, listening: socket.socket, patience_s: float) -> Iterator[None]:
    """Answers requests as long as the context is open; then takes no more, and answers those that are under way.

    Args:
        application: ASGI.
        listening: bound.
        patience_s: that requests under way are waited for.

    Raises:
        RuntimeError: the server ended by itself.
    """
    config = uvicorn.Config(
        application,
        log_level="critical",
        access_log=False,
        backlog=_BACKLOG,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=max(1, int(patience_s)),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="gateway", daemon=True)
    thread.start()
    try:
        while not server.started:
            thread.join(0.02)
            if not thread.is_alive():
                raise RuntimeError("the HTTP server ended before it started")
        yield
    finally:
        server.should_exit = True
        thread.join(patience_s + 5)
