"""The contract of a device model: fused kernels and shapes in, costs out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Shapes
from evaluators.metric import Estimate, Metric

__all__ = ["GENERATING", "PREDICTED", "Adjusted", "CostArray", "DeviceModel", "KernelBound"]

PREDICTED = {
    m.name: m
    for m in (
        Metric("latency_ms", "ms", "min", "predicted"),
        Metric("peak_memory_bytes", "B", "min", "predicted"),
        Metric("energy_mj", "mJ", "min", "predicted"),
        Metric("sustained_latency_ms", "ms", "min", "predicted"),
        Metric("energy_per_hour_mwh", "mWh", "min", "predicted"),
        Metric("ttft_ms", "ms", "min", "predicted"),
        Metric("ms_per_token", "ms", "min", "predicted"),
    )
}
"""Metrics that a device model predicts; an experiment writes them ``latency_ms@DEVICE``. Latency is that of a cool device, ``sustained_latency_ms`` of one that
has been at work for long; an hour has as many requests as the workload says."""

GENERATING = ("ttft_ms", "ms_per_token")
"""Those of causal language models alone: the time to the first token, which is that of reading the prompt, and that of each further one. Their ``latency_ms``
is of one forward pass over the workload's sequence, as of any model."""


@dataclass(frozen=True, slots=True)
class CostArray:
    """A predicted metric of a batch of candidates: ``value``, ``low`` and ``high`` are ``[candidates]``; one tier for all."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    tier: str

    def estimate(self, row: int) -> Estimate:
        """One candidate's estimate."""
        return Estimate(float(self.value[row]), float(self.low[row]), float(self.high[row]), self.tier)


class KernelBound(NamedTuple):
    """What bounds a kernel: ``compute``, ``memory``, ``launch``, or ``transfer`` from another place; its milliseconds; its unit where there are several."""

    name: str
    bound: str
    ms: float
    unit: str = ""


class DeviceModel(ABC):
    """Predicts the cost of candidates on one device, unit, runtime and thread count.

    Attributes:
        key: ``DEVICE[.UNIT]/RUNTIME[:THREADSt][:MODE]``, as written in experiments.
        memory_bytes: what a candidate's peak must fit into.
        tier: of its latency.
    """

    key: str
    memory_bytes: int
    tier: str

    @abstractmethod
    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """``latency_ms``, ``peak_memory_bytes``, ``energy_mj`` and others of ``PREDICTED`` of each candidate."""

    @abstractmethod
    def bounds(self, graph: ModelGraph, shapes: Shapes | None = None) -> Sequence[KernelBound]:
        """What bounds each kernel of one candidate, one row of ``shapes``; of the uncompressed model where None."""


@dataclass(frozen=True)
class Adjusted(DeviceModel):
    """``model`` with costs that are changed; all else is its own."""

    model: DeviceModel
    key: str = field(init=False)
    memory_bytes: int = field(init=False)
    tier: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("key", "memory_bytes", "tier"):
            object.__setattr__(self, name, getattr(self.model, name))

    def bounds(self, graph: ModelGraph, shapes: Shapes | None = None) -> Sequence[KernelBound]:
        """As the model says."""
        return self.model.bounds(graph, shapes)
