"""A limit on requests a second: a token bucket [Turner1986]."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["RateLimit"]


class RateLimit:
    """So many requests a second, and so many at once.

    Args:
        rate: requests a second; None is any number.
        burst: the most that may come at once.
        clock: seconds.
    """

    def __init__(self, rate: float | None, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate, self.burst, self._clock = rate, burst, clock
        self._tokens, self._at = float(burst), clock()

    def take(self) -> float:
        """Seconds until a request would be accepted; 0 where this one is."""
        if self.rate is None:
            return 0.0
        now = self._clock()
        self._tokens, self._at = min(self.burst, self._tokens + (now - self._at) * self.rate), now
        if self._tokens > 1 - 1e-9:  # a sum of floats
            self._tokens = max(0.0, self._tokens - 1)
            return 0.0
        return (1 - self._tokens) / self.rate

    @staticmethod
    def retry_after(seconds: float) -> str:
        """The header's value: whole seconds, at least one."""
        return str(max(1, math.ceil(seconds)))
