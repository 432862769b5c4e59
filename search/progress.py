"""What a running study shows: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

__all__ = ["Progress"]

_EVERY_S = 10.0


class Progress:
    """Trials done, front size, hypervolume, time left.

    Args:
        total: trials of the budget; None where the budget is not in trials.
    """

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._console = Console(file=sys.stderr)
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._started = time.monotonic()
        self._shown = self._started

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *details: object) -> None:
        if self._live is not None:
            self._live.stop()

    def searching(self) -> None:
        """Trials begin: what the time left is told by. Baselines took theirs."""
        self._started = time.monotonic()

    def line(self, text: str) -> None:
        """A plain line above the live one."""
        self._console.print(Text(text), soft_wrap=True)

    def update(self, done: int, here: int, front: int, volume: float, failed: int) -> None:
        """After a trial.

        Args:
            done: trials with a record.
            here: of those, the ones of this run; they tell the time left.
            front: points on the front so far, on ``search``.
            volume: its hypervolume.
            failed: trials that are not ``ok``.
        """
        elapsed = time.monotonic() - self._started
        text = f"trials {done}{f'/{self._total}' if self._total else ''}, front {front}, hypervolume {volume:.4f}"
        if failed:
            text += f", failed {failed}"
        if self._total and here:
            left = elapsed / here * max(0, self._total - done)
            text += f", {left / 60:.0f} min left" if left >= 120 else f", {left:.0f} s left"
        if self._live is not None:
            self._live.update(Text(text))
        elif time.monotonic() - self._shown >= _EVERY_S or (self._total and done >= self._total):
            self._shown = time.monotonic()
            self.line(text)
