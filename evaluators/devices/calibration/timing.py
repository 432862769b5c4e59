"""Timing of the microbenchmarks: interleaved rounds, so that a slow minute of the machine touches all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from evaluators.devices.calibration.probes import Probe

__all__ = ["time_probes"]

_ROUNDS = 7
_SLICE_S = 0.012
_LEAST_RUNS = 3


def time_probes(probes: Sequence[Probe], threads: int, progress: Callable[[str], None]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Milliseconds of one inference of each probe, and its spread, ``[probes]`` each.

    A round takes the median of several runs of every probe; the time is the lower quartile of the rounds, and the spread is how much
    their median lies above it, relatively.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    sessions = [onnxruntime.InferenceSession(p.model, options, providers=["CPUExecutionProvider"]) for p in probes]
    runs = []
    for probe, session in zip(probes, sessions, strict=True):
        seconds = min(_run(probe, session) for _ in range(_LEAST_RUNS))
        runs.append(max(_LEAST_RUNS, min(200, int(_SLICE_S / max(seconds, 1e-7)))))
    rounds = np.zeros((_ROUNDS, len(probes)))
    for i in range(_ROUNDS):
        progress(f"calibrating this host: round {i + 1} of {_ROUNDS}")
        for j, (probe, session) in enumerate(zip(probes, sessions, strict=True)):
            _run(probe, session)
            rounds[i, j] = np.median([_run(probe, session) for _ in range(runs[j])])
    low, middle = np.percentile(rounds, [25, 50], axis=0)
    return low * 1e3, middle / low - 1


def _run(probe: Probe, session: onnxruntime.InferenceSession) -> float:
    start = time.perf_counter()
    session.run(None, probe.feed)
    return time.perf_counter() - start
