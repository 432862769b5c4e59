"""The most memory that something took while it ran: what a worker of this kind has to have."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

__all__ = ["PeakMemory"]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Watches from when it is made.

    On a GPU, what torch allocates there; else what the process holds in RAM, everything in it included, which Linux alone tells.

    Args:
        device: of the work.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        self._lowered = False
        # A process has one high-water mark; where it cannot be lowered, only a new one says anything.
        with contextlib.suppress(OSError):
            _RESET.write_text("5")
            self._lowered = True
        self._before = _high_water()

    def bytes(self) -> int | None:
        """The peak since then; None where it is not known."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        now = _high_water()
        if now is None or self._before is None:
            return None
        return now if self._lowered or now > self._before else None


def _high_water() -> int | None:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
