"""The roofline cost model: a kernel takes as long as its arithmetic or its memory traffic, whichever is longer [Williams2009].

[Williams2009] Williams, Waterman, Patterson: Roofline: an insightful visual performance model for multicore architectures. CACM 52(4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Shapes
from compressors.targets import Target
from evaluators.devices.device_model import CostArray, DeviceModel, KernelBound
from evaluators.devices.doubt import Doubt
from evaluators.devices.fallback import converted_by_fallback
from evaluators.devices.generation import generates, in_place, with_programs
from evaluators.devices.kernel_table import KernelTable, kernel_table
from evaluators.devices.kernel_time import GEMV, KernelTimes, Load, Product, kernel_times
from evaluators.devices.memory import peak_bytes, resident_bits
from evaluators.devices.rates import PRECISIONS, Rates

__all__ = ["Interval", "Roofline", "bounds_of", "picojoules"]

Floats = NDArray[np.float64]
_CHUNK = 2048
_OWN_SHARE = 0.25
"""Of a cache that the processor shares with activations and with other work."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Factors (low, high) around each predicted metric that are believed to hold the truth in 90 % of cases."""

    latency: tuple[float, float]
    memory: tuple[float, float]
    energy: tuple[float, float]


@dataclass(frozen=True)
class Roofline(DeviceModel):
    """Prices candidates with ``rates``; ``target`` decides the kernels and what they compute in.

    ``tier`` holds for every metric that ``other_tiers`` does not name. ``doubt`` replaces the interval of the latency where it depends on the candidate.
    ``stream_gb_s``: how fast weights and caches of language models, which no memory on the chip holds, are read at most; None where that is not known.
    ``copies_cache``: whether a step of decoding returns its cache as new tensors, as exported to ONNX Runtime; other engines append to theirs in place.
    """

    key: str
    memory_bytes: int
    rates: Rates
    target: Target
    tier: str
    interval: Interval
    other_tiers: Mapping[str, str] = field(default_factory=dict)
    doubt: Doubt | None = None
    copies_cache: bool = True
    stream_gb_s: float | None = None

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """``latency_ms``, ``peak_memory_bytes`` and ``energy_mj`` of each candidate; of models that generate also those of ``GENERATING``."""
        return with_programs(self.reading(graph).program_cost, graph, shapes)

    def program_cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """Of one program alone."""
        tables = (self.table(graph, shapes[i : i + _CHUNK]) for i in range(0, len(shapes), _CHUNK))
        parts = [self._priced(part) for table in tables for part in table.parts]
        latency, memory, energy, width = (np.concatenate([part[i] for part in parts]) if parts else np.zeros(0) for i in range(4))
        found = {
            "latency_ms": (latency, self.interval.latency),
            "peak_memory_bytes": (memory, self.interval.memory),
            "energy_mj": (energy, self.interval.energy),
        }
        costs = {name: CostArray(v, v * low, v * high, self.other_tiers.get(name, self.tier)) for name, (v, (low, high)) in found.items()}
        if self.doubt is not None:
            costs["latency_ms"] = replace(costs["latency_ms"], low=latency / width, high=latency * width)
        return costs

    def bounds(self, graph: ModelGraph, shapes: Shapes | None = None) -> Sequence[KernelBound]:
        """The kernels of one candidate, the uncompressed model where None; those that it does not have are left out."""
        table = self.table(graph, graph.baseline() if shapes is None else shapes)
        return bounds_of(table, self.reading(graph).times(table))

    def reading(self, graph: ModelGraph) -> Roofline:
        """The model for a language model that generates: nothing that it reads comes faster than ``stream_gb_s``."""
        if self.stream_gb_s is None or not generates(graph):
            return self
        bandwidth = {name: min(rate, self.stream_gb_s) for name, rate in self.rates.bandwidth_gb_s.items()}
        rates = self.rates.model_copy(update={"weight_gb_s": min(self.rates.weight_gb_s, self.stream_gb_s), "bandwidth_gb_s": bandwidth})
        return replace(self, rates=rates, stream_gb_s=None)

    def table(self, graph: ModelGraph, shapes: Shapes) -> KernelTable:
        """The kernels of candidates as the runtime executes them."""
        return kernel_table(graph if self.copies_cache else in_place(graph), self.target, shapes)

    def _priced(self, table: KernelTable) -> tuple[Floats, Floats, Floats, Floats]:
        table = table.summed
        times = self.times(table)
        classes = [k.op_class for k in table.kernels]
        width = np.ones(len(table.dynamic)) if self.doubt is None else self.doubt.width(classes, table.computes_integers, times)
        latency = times.kernel.sum(axis=0) + self.rates.overhead_ms
        memory = peak_bytes(table, self.rates)
        joules = picojoules(table, self.rates) + times.bytes.sum(axis=0) * self.rates.pj_per_byte
        return latency, memory, self.rates.idle_w * latency + joules * 1e-9, width

    def products(self, table: KernelTable) -> tuple[Product, ...]:
        """The kernels that multiply, in the classes that the rates distinguish."""
        return table.row_products if self.rates.distinguishes(GEMV) else table.products

    def times(self, table: KernelTable) -> KernelTimes:
        """Of every kernel of the table."""
        rates = self.rates
        # Where the rates of products that quantize at run time were measured, the conversion is part of them.
        converted = table.requantized if "int8_dynamic" in rates.compute else table.requantized + table.quantized_at_run_time
        load = Load(
            tuple(k.op_class for k in table.kernels),
            self.products(table),
            table.integer,
            table.computes_integers,
            table.moved,
            table.weights_read * resident_bits(self.rates, table.precision, table.weight_bits) / 8,
            converted_by_fallback(converted, table, rates),
            table.present,
            table.stored_bytes > rates.cache_bytes,
            1 - np.minimum(_OWN_SHARE * rates.cache_bytes / np.maximum(table.stored_bytes, 1.0), 1.0),
        )
        return kernel_times(load, rates)


def picojoules(table: KernelTable, rates: Rates, where: NDArray[np.bool_] | None = None) -> Floats:
    """Energy of the arithmetic, ``[candidates]``; ``where``, ``[kernels, candidates]``: of some kernels alone."""
    total = np.zeros(len(table.dynamic))
    for product in table.products:
        energies = np.array([rates.pj_per_mac[rates.runs_as(PRECISIONS[p])] for p, _ in product.arithmetics])
        spent = product.macs * energies[product.which]
        total += (spent if where is None else np.where(where[product.kernels], spent, 0.0)).sum(axis=0)
    return total


def bounds_of(table: KernelTable, times: KernelTimes, units: Sequence[str] | None = None) -> list[KernelBound]:
    """What bounds each kernel of the first candidate of ``table``; ``units`` are those that execute them, where there are several."""
    largest = np.argmax(np.stack([times.compute[:, 0], times.memory[:, 0], times.launch[:, 0]]), axis=0)
    names = ("compute", "memory", "launch")
    where = units or [""] * len(table.kernels)
    found = zip(table.kernels, largest, times.kernel[:, 0], where, table.present[:, 0], strict=True)
    return [KernelBound(k.name, names[b], float(ms), unit) for k, b, ms, unit, present in found if present]
