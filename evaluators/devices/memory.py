"""How much memory a model needs while it runs: weights as the runtime holds them, activations that live at once, a language model's cache, the runtime.

Weights are held at the width that they are computed in. A runtime that reorders or packs them for its kernels holds more than one copy, if only while it loads:
``weight_copies`` says how many: of ``convolution`` and ``other`` kernels, with ``_int8`` appended where integers differ, and of a ``widened_embedding``,
a table that is stored as integers and unpacked. What the allocator of ONNX Runtime keeps is part of what was fitted there, not of this arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.kernel_table import KernelTable
from evaluators.devices.kernel_time import CONVOLUTIONS
from evaluators.devices.rates import PRECISIONS, Rates

__all__ = ["Held", "peak_bytes", "placed_peak_bytes", "resident_bits"]

Floats = NDArray[np.float64]
_BITS = {"fp32": 32.0, "fp16": 16.0, "int8": 8.0, "int4": 4.0}
_INT8 = PRECISIONS.index("int8")


def resident_bits(rates: Rates, precision: NDArray[np.int8], stored_bits: NDArray[np.int8]) -> Floats:
    """Bits of a weight while the model runs: runtimes widen at load to what they compute in, but for 4 bits that a kernel unpacks itself."""
    widths = np.array([_BITS[rates.runs_as(p)] for p in PRECISIONS], dtype=np.float64)
    resident = widths[precision]
    return np.where(precision == PRECISIONS.index("int4"), np.minimum(resident, stored_bits), resident)


@dataclass(frozen=True, slots=True)
class Held:
    """A unit's rates, and the kernels that it executes, ``[kernels, candidates]``, 1 or 0."""

    rates: Rates
    present: Floats


def peak_bytes(table: KernelTable, rates: Rates) -> Floats:
    """The most that the process occupies, bytes, ``[candidates]``."""
    return placed_peak_bytes(table, [Held(rates, table.present)])


def placed_peak_bytes(table: KernelTable, units: Sequence[Held]) -> Floats:
    """The same where several units share the memory: each holds the weights of its kernels, and its runtime where it executes any."""
    widths = [2.0 if unit.rates.runs_as("fp32") == "fp16" else 4.0 for unit in units]
    wide = widths[0] if len(units) == 1 else sum((unit.present * width for unit, width in zip(units, widths, strict=True)), np.zeros(table.present.shape))
    # Biases, normalisations and scales are not prepared for any kernel.
    counted = (table.site_weights * table.site_bits / 8).sum(axis=0)
    total: Floats = _activation_bytes(table, wide) + table.cache_elements * np.max(wide) + np.maximum(table.stored_bytes - counted, 0.0)
    for unit in units:
        runtime = unit.rates.memory_bytes if len(units) == 1 else np.where(unit.present.any(axis=0), unit.rates.memory_bytes, 0.0)
        total = total + _weight_bytes(table, unit.rates, unit.present) + runtime
    return total


def _weight_bytes(table: KernelTable, rates: Rates, present: Floats) -> Floats:
    """A tied embedding is held as a table and, transposed, for its product; a weight that layers share is held once."""
    held = np.zeros_like(table.stored_bytes)
    bits = resident_bits(rates, table.precision, table.weight_bits)
    seen: set[tuple[int, str, tuple[int, ...]]] = set()
    for k, kernel in enumerate(table.kernels):
        if kernel.site is None or (kernel.site, kernel.op_class, kernel.site_parts) in seen or not present[k].any():
            continue
        seen.add((kernel.site, kernel.op_class, kernel.site_parts))
        kind = "convolution" if kernel.op_class in CONVOLUTIONS else "other"
        floats = np.full(bits.shape[1], rates.weight_copies.get(kind, 1.0))
        if kernel.op_class == "embedding":
            floats = np.where(table.weight_bits[k] < bits[k], rates.weight_copies.get("widened_embedding", floats), floats)
        copies = np.where(table.precision[k] == _INT8, rates.weight_copies.get(f"{kind}_int8", floats), floats)
        held += table.multiplied[k] * present[k] * bits[k] / 8 * copies
    return held


def _activation_bytes(table: KernelTable, wide: Floats | float) -> Floats:
    """The most that activations occupy at once, at the mean width of what the kernels write."""
    written = table.outputs.sum(axis=0)
    mean = (table.outputs * np.where(table.integer, 1.0, wide)).sum(axis=0) / np.maximum(written, 1.0)
    occupied: Floats = table.activation_peak * mean
    return occupied
