"""A termination signal ends a search as Ctrl-C does: cluster managers and ``ray job stop`` send no other."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["interrupted_by_termination"]


@contextmanager
def interrupted_by_termination() -> Iterator[None]:
    """Within it SIGTERM raises KeyboardInterrupt in the main thread; to be entered after Ray was started, which sets a handler of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
