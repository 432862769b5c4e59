"""Timing of many models: interleaved rounds, so that a slow minute of the machine touches all of them alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["SPREAD_LIMIT", "Rounds", "seconds", "spread_of", "time_runs"]

SPREAD_LIMIT = 0.25
_ROUNDS, _MOST_ROUNDS = 7, 14
_SLICE_S = 0.012
_LEAST_RUNS = 3


class Rounds:
    """Finished rounds, kept in a file until all is done, so that an interrupted calibration goes on where it stopped.

    Args:
        path: of the file; None keeps nothing.
        machine: what the times hold for; a file of another machine, versions or threads is not read.
    """

    def __init__(self, path: Path | None, machine: dict[str, str]) -> None:
        self._path, self._machine = path, machine
        self._known: dict[str, list[list[float]]] = {}
        if path is not None and path.is_file():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                self._known = content["rounds"] if content["machine"] == machine else {}
            except (ValueError, KeyError, TypeError):
                self._known = {}  # cut off while it was written

    def of(self, label: str, models: int) -> list[list[float]]:
        """Milliseconds of the finished rounds, a list a round."""
        return [row for row in self._known.get(label, []) if len(row) == models]

    def add(self, label: str, row: Sequence[float]) -> None:
        """One more round."""
        self._known.setdefault(label, []).append(list(row))
        if self._path is not None:
            partial = self._path.with_suffix(".writing")
            partial.write_text(json.dumps({"machine": self._machine, "rounds": self._known}), encoding="utf-8")
            partial.replace(self._path)

    def close(self) -> None:
        """All is done."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def time_runs(
    runs: Sequence[Callable[[], object]], label: str, rounds: Rounds, progress: Callable[[str], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of one inference of each model, and its spread, ``[models]`` each.

    A round takes the median of several runs of every model; the time is the median of the last seven rounds, and the spread is how much it lies above
    their lower quartile, relatively. While that is beyond ``SPREAD_LIMIT``, the machine gets up to seven rounds more to become quiet.

    Args:
        runs: one inference each.
        label: of these models, in progress lines and among the rounds that were kept.
        rounds: what was measured before, and where new ones go.
        progress: receives a line a round.
    """
    done = rounds.of(label, len(runs))
    if done:
        progress(f"calibrating this host: {label}: {len(done)} rounds were measured before")
    if _unsettled(done):
        counts = [max(_LEAST_RUNS, min(200, int(_SLICE_S / max(min(seconds(run) for _ in range(_LEAST_RUNS)), 1e-7)))) for run in runs]
        while _unsettled(done):
            busy = "" if len(done) < _ROUNDS else f", timings vary by {spread_of(_settled(done)[1]):.0%}: timed again"
            progress(f"calibrating this host: {label}: round {len(done) % _ROUNDS + 1} of {_ROUNDS}{busy}")
            row = []
            for run, count in zip(runs, counts, strict=True):
                seconds(run)
                row.append(1e3 * float(np.median([seconds(run) for _ in range(count)])))
            done.append(row)
            rounds.add(label, row)
    return _settled(done)


def spread_of(spreads: NDArray[np.float64]) -> float:
    """Of all models: what three quarters of them do not exceed."""
    return float(np.percentile(spreads, 75))


def _unsettled(done: Sequence[Sequence[float]]) -> bool:
    return len(done) < _ROUNDS or (len(done) < _MOST_ROUNDS and spread_of(_settled(done)[1]) > SPREAD_LIMIT)


def _settled(done: Sequence[Sequence[float]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    low, middle = np.percentile(np.array(done[-_ROUNDS:]), [25, 50], axis=0)
    return middle, middle / low - 1


def seconds(run: Callable[[], object]) -> float:
    """Of one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
