"""Suggestions ahead of demand: a thread learns and proposes while workers are busy."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Ahead"]

T = TypeVar("T")


class Ahead(Generic[T]):
    """Keeps some proposals ready. Nothing else calls ``propose`` and ``learn`` meanwhile.

    Args:
        propose: makes one, None where there is no other.
        learn: takes in what came of one.
        count: how many are ready at most, made in a thread; 0 makes each when it is asked for, so that it knows of everything that has ended.
    """

    def __init__(self, propose: Callable[[], T | None], learn: Callable[..., None], count: int) -> None:
        self._propose, self._learn, self._count = propose, learn, count
        self._change = threading.Condition()
        self._ready: deque[T] = deque()
        self._told: deque[tuple[Any, ...]] = deque()
        self._over = self._closed = False
        self._error: Exception | None = None
        self._thread: threading.Thread | None = None

    def take(self) -> T | tuple[()] | None:
        """A proposal; empty where none is ready yet; None where there is no other."""
        if not self._count:
            return self._propose()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="proposals", daemon=True)
            self._thread.start()
        with self._change:
            if self._error is not None:
                raise self._error
            if not self._ready:
                return None if self._over else ()
            self._change.notify()
            return self._ready.popleft()

    def tell(self, *arguments: Any) -> None:
        """Passed on to ``learn``, before the next proposal is made."""
        if self._thread is None:
            self._learn(*arguments)
            return
        with self._change:
            self._told.append(arguments)

    def close(self) -> None:
        """No more proposals are made."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closed:
                with self._change:
                    self._change.wait_for(lambda: self._closed or len(self._ready) < self._count)
                    told, self._told = self._told, deque()
                for arguments in told:
                    self._learn(*arguments)
                proposal = None if self._closed else self._propose()
                with self._change:
                    if proposal is None:
                        return
                    self._ready.append(proposal)
        except Exception as error:  # noqa: BLE001 - whoever takes the next proposal is told
            self._error = error
        finally:
            self._over = True
