"""The roofline cost model: a kernel takes as long as its arithmetic or its memory traffic, whichever is longer [Williams2009].

[Williams2009] Williams, Waterman, Patterson: Roofline: an insightful visual performance model for multicore architectures. CACM 52(4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Shapes
from compressors.targets import Target
from evaluators.devices.device_model import CostArray, DeviceModel
from evaluators.devices.kernel_table import KernelTable, kernel_table
from evaluators.devices.rates import BLOCK, PRECISIONS, Rate, Rates

__all__ = ["Interval", "Roofline"]

Floats = NDArray[np.float64]
_CHUNK = 2048
_BITS = {"fp32": 32.0, "fp16": 16.0, "int8": 8.0, "int4": 4.0}


@dataclass(frozen=True, slots=True)
class Interval:
    """Factors (low, high) around each predicted metric that are believed to hold the truth in 90 % of cases."""

    latency: tuple[float, float]
    memory: tuple[float, float]
    energy: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _Times:
    """Milliseconds of each kernel, ``[kernels, candidates]``, and what the energy counts."""

    compute: Floats
    memory: Floats
    launch: Floats
    bytes: Floats
    picojoules: Floats

    @property
    def kernel(self) -> Floats:
        return np.maximum(self.compute, self.memory) + self.launch


@dataclass(frozen=True)
class Roofline(DeviceModel):
    """Prices candidates with ``rates``; ``target`` decides the kernels and what they compute in.

    ``tier`` holds for every metric that ``other_tiers`` does not name.
    """

    key: str
    memory_bytes: int
    rates: Rates
    target: Target
    tier: str
    interval: Interval
    other_tiers: Mapping[str, str] = field(default_factory=dict)

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """``latency_ms``, ``peak_memory_bytes`` and ``energy_mj`` of each candidate."""
        parts = [self._priced(kernel_table(graph, self.target, shapes[i : i + _CHUNK])) for i in range(0, len(shapes), _CHUNK)]
        latency, memory, energy = (np.concatenate([part[i] for part in parts]) if parts else np.zeros(0) for i in range(3))
        found = {
            "latency_ms": (latency, self.interval.latency),
            "peak_memory_bytes": (memory, self.interval.memory),
            "energy_mj": (energy, self.interval.energy),
        }
        return {name: CostArray(v, v * low, v * high, self.other_tiers.get(name, self.tier)) for name, (v, (low, high)) in found.items()}

    def bounds(self, graph: ModelGraph) -> Sequence[tuple[str, str, float]]:
        """For the uncompressed model, each kernel's name, what bounds it (``compute``, ``memory`` or ``launch``) and its milliseconds."""
        table = kernel_table(graph, self.target, graph.baseline())
        times = self._times(table)
        largest = np.argmax(np.stack([times.compute[:, 0], times.memory[:, 0], times.launch[:, 0]]), axis=0)
        names = ("compute", "memory", "launch")
        return [(k.name, names[b], float(ms)) for k, b, ms in zip(table.kernels, largest, times.kernel[:, 0], strict=True)]

    def _priced(self, table: KernelTable) -> tuple[Floats, Floats, Floats]:
        times = self._times(table)
        latency = times.kernel.sum(axis=0) + self.rates.overhead_ms
        memory = table.stored_bytes + self._widened(table) + self._activation_bytes(table) + self.rates.memory_bytes
        picojoules = times.picojoules.sum(axis=0) + times.bytes.sum(axis=0) * self.rates.pj_per_byte
        return latency, memory, self.rates.idle_w * latency + picojoules * 1e-9

    def _times(self, table: KernelTable) -> _Times:
        rates = self.rates
        float_bytes = 2.0 if rates.runs_as("fp32") == "fp16" else 4.0
        gathers = np.array([k.op_class == "embedding" for k in table.kernels], dtype=np.bool_)[:, None]
        # An embedding reads the rows it looks up, not its table.
        weight_bytes = np.where(gathers, np.minimum(table.weights, table.outputs), table.weights) * self._resident_bits(table.precision, table.weight_bits) / 8
        moved = np.where(table.integer, 1.0, float_bytes)
        activation_bytes = (table.inputs + table.outputs) * moved
        # Conversions between float and 8-bit integers: every element is read in one form and written in the other.
        # Where the rates of products that quantize at run time were measured, the conversion is part of them.
        dynamic = (table.precision == PRECISIONS.index("int8")) & table.dynamic & ("int8_dynamic" not in rates.compute)
        converted = np.where(table.quantizes, table.inputs + table.outputs, 0.0) + np.where(dynamic, table.inputs, 0.0)
        converted_bytes = converted * (1.0 + float_bytes)
        classes = [k.op_class for k in table.kernels]
        bandwidth = np.where(table.integer, *(np.array([rates.bandwidth(c, integer=i) for c in classes])[:, None] for i in (True, False)))
        streamed = table.stored_bytes > rates.cache_bytes
        weight_rate = np.where(streamed, rates.weight_gb_s, np.maximum(rates.weight_gb_s, rates.bandwidth("default")))
        memory: Floats = activation_bytes / (bandwidth * 1e6) + weight_bytes / (weight_rate * 1e6)
        conversion = converted_bytes / (rates.bandwidth("quantize") * 1e6)
        compute, picojoules = np.zeros_like(memory), np.zeros_like(memory)
        is_int8 = (table.precision == PRECISIONS.index("int8")) | table.integer
        launch = (
            np.where(is_int8, *(np.array([rates.launch(c, integer=i) for c in classes])[:, None] for i in (True, False))) * table.present * 1e-3 + conversion
        )
        for k, op_class in enumerate(classes):
            if not table.macs[k].any():
                continue
            for p in np.unique(table.precision[k]):
                for is_dynamic in np.unique(table.dynamic):
                    rows = (table.precision[k] == p) & (table.dynamic == is_dynamic)
                    rate = rates.rate(PRECISIONS[p], op_class, dynamic=bool(is_dynamic))
                    compute[k, rows] = _compute_ms(rate, table.macs[k, rows], table.weights[k, rows], table.outputs[k, rows])
                    picojoules[k, rows] = table.macs[k, rows] * rates.pj_per_mac[rates.runs_as(PRECISIONS[p])]
        return _Times(compute, memory, launch, activation_bytes + weight_bytes + converted_bytes, picojoules)

    def _resident_bits(self, precision: NDArray[np.int8], stored_bits: NDArray[np.int8]) -> Floats:
        """Bits of a weight while the model runs: runtimes widen at load to what they compute in, but for 4 bits that a kernel unpacks itself."""
        widths = np.array([_BITS[self.rates.runs_as(p)] for p in PRECISIONS], dtype=np.float64)
        resident = widths[precision]
        return np.where(precision == PRECISIONS.index("int4"), np.minimum(resident, stored_bits), resident)

    def _widened(self, table: KernelTable) -> Floats:
        """Bytes that the weights take in memory beyond what they take in the file."""
        bits = self._resident_bits(table.site_precision, table.site_bits) - table.site_bits
        total: Floats = (table.site_weights * bits / 8).sum(axis=0)
        return total

    def _activation_bytes(self, table: KernelTable) -> Floats:
        """The most that activations occupy at once, at the mean width of what the kernels write."""
        float_bytes = 2.0 if self.rates.runs_as("fp32") == "fp16" else 4.0
        written = table.outputs.sum(axis=0)
        mean = (table.outputs * np.where(table.integer, 1.0, float_bytes)).sum(axis=0) / np.maximum(written, 1.0)
        occupied: Floats = table.activation_peak * mean
        return occupied


def _compute_ms(rate: Rate, macs: Floats, weights: Floats, outputs: Floats) -> Floats:
    depth = macs / np.maximum(outputs, 1.0)
    width = np.where(weights > 0, weights / np.maximum(depth, 1.0), np.inf)
    rows = outputs / np.maximum(np.minimum(width, outputs), 1.0)
    slowdown = (1 + rate.half_depth / np.maximum(depth, 1.0)) * (1 + rate.half_width / np.maximum(width, 1.0))
    slowdown = slowdown * (1 + rate.half_rows / np.maximum(rows, 1.0)) * (1 + rate.half_outputs / np.maximum(outputs, 1.0))
    for factor, size in ((rate.misaligned_width, width), (rate.misaligned_depth, depth)):
        if factor > 1:
            slowdown = np.where(np.isfinite(size) & (np.rint(np.minimum(size, 1e9)) % BLOCK != 0), factor, 1.0) * slowdown
    milliseconds: Floats = macs * slowdown / (rate.gmacs * 1e6)
    return milliseconds
