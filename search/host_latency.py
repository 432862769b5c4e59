"""Latency on the machine at hand, against what was predicted for it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from evaluators.metric import Estimate
from search.bench import typical
from search.preparing import Prepared
from search.runtime_process import bench
from search.verification import host_threads

__all__ = ["HostLatency"]

_PROCESSES, _SECONDS = 3, 0.3


class HostLatency:
    """Times model files on the devices of an experiment that are this machine, taking turns with the uncompressed model."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._devices = host_threads(prepared.experiment)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._plain: Path | None = None

    def measure(self, model: Path, promised: Mapping[str, Estimate], native: Path | None = None) -> tuple[dict[str, float], list[str]]:
        """Milliseconds by metric name, median over processes; and a reason for each that is above the promised interval.

        Where the uncompressed model is as far off, something else keeps this machine busy, or it is not as it was when it was calibrated: nobody is to blame.

        Args:
            model: with its examples beside it.
            promised: figures by metric.
            native: examples of the uncompressed model, where it takes larger inputs.

        Raises:
            UnexportableError: the runtime cannot run the model.
        """
        found: dict[str, float] = {}
        reasons: list[str] = []
        for key, threads in self._devices.items():
            name = f"latency_ms@{key}"
            own, plain = self._timed(model, threads, native)
            found[name] = own
            expected = self._prepared.costs(self._prepared.graph.baseline())[0][name]
            if own > promised[name].high and plain <= expected.high:
                reasons.append(f"{name}: promised {promised[name].value:.3g} ms, at most {promised[name].high:.3g}; found {own:.3g}")
        return found, reasons

    def close(self) -> None:
        """Remove the uncompressed model's file."""
        if self._folder is not None:
            self._folder.cleanup()

    def _timed(self, model: Path, threads: int, native: Path | None) -> tuple[float, float]:
        batch = str(self._prepared.experiment.workload.batch)
        options = ["--against", str(self._uncompressed()), "--batch", batch, "--threads", str(threads), "--seconds", str(_SECONDS)]
        options += [] if native is None else ["--against-examples", str(native)]
        runs = [bench(model, *options) for _ in range(_PROCESSES)]
        own = [typical(run["latency_ms"]) for run in runs]
        plain = [typical(run["against"]["latency_ms"]) for run in runs]
        return float(np.median(own)), float(np.median(plain))

    def _uncompressed(self) -> Path:
        if self._plain is None:
            self._folder = tempfile.TemporaryDirectory(prefix="compareto-uncompressed-")
            self._plain = self._prepared.target.export(self._prepared.model, self._prepared.task.example_inputs, Path(self._folder.name))
        return self._plain
