"""A model on several units of a device: which of them executes each kernel, so that arithmetic and transfers together take least.

The kernels are taken as a sequence, and a dynamic programme over it finds the fastest placement of every candidate. A kernel on another unit than the one
before it waits until its inputs are moved: read where they are and written where they are needed, at the bandwidth of each unit, after what an invocation of
the unit costs (``overhead_ms``). What a skip connection brings from an earlier unit is counted where its reader starts a new stretch only. The last unit
executes everything; of the others, ``absent`` are the classes of kernels that they do not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Shapes
from evaluators.devices.device_model import CostArray, DeviceModel, KernelBound
from evaluators.devices.generation import with_programs
from evaluators.devices.kernel_table import KernelTable
from evaluators.devices.kernel_time import KernelTimes
from evaluators.devices.memory import Held, placed_peak_bytes
from evaluators.devices.rates import Rates
from evaluators.devices.roofline import Roofline, bounds_of, picojoules
from evaluators.metric import TIERS

__all__ = ["Placed", "PlacedUnit", "Placement", "place"]

Floats = NDArray[np.float64]
_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class PlacedUnit:
    """A unit's name, its model, and the op classes that its runtime has no kernels for."""

    name: str
    model: Roofline
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where kernels run.

    Attributes:
        unit: ``[kernels, candidates]`` index of the unit.
        transfer: ``[kernels, candidates]`` milliseconds that a kernel waits for its unit and its inputs; of the first one for its unit alone.
    """

    unit: NDArray[np.int64]
    transfer: Floats


def place(times: Floats, present: Floats, moved_bytes: Floats, enter_ms: Floats, ms_per_byte: Floats) -> Placement:
    """The fastest placement of each candidate.

    Args:
        times: ``[units, kernels, candidates]`` milliseconds, infinite where a unit cannot.
        present: ``[kernels, candidates]``; what a candidate does not have moves nothing and takes nothing.
        moved_bytes: ``[kernels, candidates]`` inputs of each kernel.
        enter_ms: ``[units]`` of each stretch of kernels on a unit.
        ms_per_byte: ``[units, units]`` from one to another.
    """
    units, kernels, candidates = times.shape
    stay = np.arange(units)
    back = np.zeros((kernels, units, candidates), dtype=np.int64)
    best = np.broadcast_to(enter_ms[:, None], (units, candidates)).copy()
    crossing = np.where(np.eye(units, dtype=np.bool_), 0.0, enter_ms[None, :])
    started = np.zeros(candidates, dtype=np.bool_)
    for k in range(kernels):
        # From, to, candidates. Before the first kernel everything may start anywhere.
        reached = best[:, None] + crossing[:, :, None] + ms_per_byte[:, :, None] * moved_bytes[k]
        there, here = present[k] > 0, np.broadcast_to(stay[:, None], (units, candidates))
        back[k] = np.where(there & started, reached.argmin(axis=0), here)
        arrived = np.take_along_axis(reached, back[k][None], axis=0)[0]
        best = np.where(there, np.where(started, arrived, best) + times[:, k], best)
        started |= there
    where = np.zeros((kernels, candidates), dtype=np.int64)
    column = np.arange(candidates)
    current = best.argmin(axis=0)
    transfer = np.zeros((kernels, candidates))
    for k in range(kernels - 1, -1, -1):
        where[k] = current
        before = back[k, current, column]
        transfer[k] = np.where(before == current, 0.0, enter_ms[current] + ms_per_byte[before, current] * moved_bytes[k])
        current = before
    return Placement(where, transfer)


@dataclass(frozen=True)
class Placed(DeviceModel):
    """A device model of several units; the first one is preferred, the last one can do everything."""

    key: str
    memory_bytes: int
    units: tuple[PlacedUnit, ...]
    tier: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tier", max((unit.model.tier for unit in self.units), key=TIERS.index))

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """As a roofline's: time with its transfers, memory that all units together hold, energy of each unit's kernels; tiers are the worst of the units'."""
        return with_programs(self._reading(graph).program_cost, graph, shapes)

    def bounds(self, graph: ModelGraph, shapes: Shapes | None = None) -> Sequence[KernelBound]:
        """The kernels of one candidate with their units, and the transfers between units."""
        table = self.units[0].model.table(graph, graph.baseline() if shapes is None else shapes)
        times, placement = self._reading(graph).placed(table)
        where = placement.unit[:, 0]
        names = [self.units[u].name for u in where]
        each = [bounds_of(table, t, names) for t in times]
        present = np.flatnonzero(table.present[:, 0])
        found: list[KernelBound] = []
        for position, k in enumerate(present):
            if placement.transfer[k, 0] > 0:
                found.append(KernelBound(table.kernels[k].name, "transfer", float(placement.transfer[k, 0]), names[k]))
            found.append(each[where[k]][position])
        return found

    def _reading(self, graph: ModelGraph) -> Placed:
        return replace(self, units=tuple(replace(unit, model=unit.model.reading(graph)) for unit in self.units))

    def program_cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """Of one program alone."""
        tables = (self.units[0].model.table(graph, shapes[i : i + _CHUNK]) for i in range(0, len(shapes), _CHUNK))
        parts = [self._priced(part) for table in tables for part in table.parts]
        latency, low, high, memory, energy = (np.concatenate([part[i] for part in parts]) if parts else np.zeros(0) for i in range(5))
        first = self.units[0].model
        costs = {"latency_ms": CostArray(latency, low, high, self.tier)}
        for name, value, (least, most) in (("peak_memory_bytes", memory, first.interval.memory), ("energy_mj", energy, first.interval.energy)):
            tiers = [unit.model.other_tiers.get(name, unit.model.tier) for unit in self.units]
            costs[name] = CostArray(value, value * least, value * most, max(tiers, key=TIERS.index))
        return costs

    def placed(self, table: KernelTable) -> tuple[list[KernelTimes], Placement]:
        """The kernels' times on each unit, and where they run."""
        times = [unit.model.times(table) for unit in self.units]
        classes = np.array([k.op_class for k in table.kernels])
        able = [~np.isin(classes, list(unit.absent))[:, None] for unit in self.units[:-1]]
        each = np.stack([*(np.where(can, t.kernel, np.inf) for can, t in zip(able, times, strict=False)), times[-1].kernel])
        rates = [unit.model.rates for unit in self.units]
        per_byte = np.array([1e-6 / r.bandwidth("default") for r in rates])
        between = np.where(np.eye(len(rates), dtype=np.bool_), 0.0, per_byte[:, None] + per_byte[None, :])
        moved = table.inputs * np.where(table.integer, 1.0, max(_float_bytes(r) for r in rates))
        return times, place(each, table.present, moved, np.array([r.overhead_ms for r in rates]), between)

    def _priced(self, table: KernelTable) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        times, placement = self.placed(table)
        here = [(placement.unit == u) & (table.present > 0) for u in range(len(self.units))]
        kernel = sum((np.where(mask, t.kernel, 0.0) for mask, t in zip(here, times, strict=True)), np.zeros(table.present.shape))
        # The first stretch costs an invocation too, which is no transfer.
        start = np.array([unit.model.rates.overhead_ms for unit in self.units])[placement.unit[0]] if len(table.kernels) else np.zeros(len(table.dynamic))
        latency = kernel.sum(axis=0) + placement.transfer.sum(axis=0) + start
        low, high = np.ones_like(latency), np.ones_like(latency)
        joules = np.zeros_like(latency)
        for unit, mask, t in zip(self.units, here, times, strict=True):
            least, most = _width(unit.model, table, t, mask)
            used = mask.any(axis=0)
            low, high = np.where(used, np.minimum(low, least), low), np.where(used, np.maximum(high, most), high)
            joules += picojoules(table, unit.model.rates, mask) + np.where(mask, t.bytes, 0.0).sum(axis=0) * unit.model.rates.pj_per_byte
        memory = placed_peak_bytes(table, [Held(unit.model.rates, mask * table.present) for unit, mask in zip(self.units, here, strict=True)])
        return latency, latency * low, latency * high, memory, self.units[0].model.rates.idle_w * latency + joules * 1e-9


def _float_bytes(rates: Rates) -> float:
    return 2.0 if rates.runs_as("fp32") == "fp16" else 4.0


def _width(model: Roofline, table: KernelTable, times: KernelTimes, mask: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Factors (low, high) of each candidate, by what this unit executes of it."""
    if model.doubt is None:
        low, high = model.interval.latency
        return np.full(mask.shape[1], low), np.full(mask.shape[1], high)
    own = KernelTimes(times.compute * mask, times.memory * mask, times.launch * mask, times.bytes, times.hidden)
    width = model.doubt.width([k.op_class for k in table.kernels], table.computes_integers, own)
    return 1 / width, width
