"""What the server counts, in Prometheus's text format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Figures"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Figures:
    """Counters of one gateway; labels are names that are served, so that no request makes up another."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ("model", "version")
        self._requests = Counter("compareto_requests", "Requests that were answered", (*labels, "status"), registry=self._registry)
        self._seconds = Histogram("compareto_request_seconds", "From the request to its answer", labels, registry=self._registry, buckets=_SECONDS)
        self._inputs = Counter("compareto_inputs", "Texts, images or rows that were answered", labels, registry=self._registry)
        self._batch = Histogram("compareto_batch_inputs", "Inputs that a replica ran at once", labels, registry=self._registry, buckets=_SIZES)
        self._resident = Gauge("compareto_replica_resident_bytes", "Memory of a replica's process", (*labels, "pid"), registry=self._registry)
        self.waiting = Gauge("compareto_waiting", "Requests that are worked on or wait", registry=self._registry)

    def answered(self, model: str, version: str, status: int, seconds: float, inputs: int) -> None:
        """One request; ``model`` and ``version`` are empty where it reached none."""
        self._requests.labels(model, version, str(status)).inc()
        if status == 200:
            self._seconds.labels(model, version).observe(seconds)
            self._inputs.labels(model, version).inc(inputs)

    def ran(self, model: str, version: str, inputs: int, status: Mapping[str, Any]) -> None:
        """One batch, and what its replica says of itself."""
        self._batch.labels(model, version).observe(inputs)
        self._resident.labels(model, version, str(status["pid"])).set(status["resident_bytes"])

    def text(self) -> bytes:
        """For Prometheus."""
        return generate_latest(self._registry)
