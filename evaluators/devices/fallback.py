"""What a precision costs that a unit does not compute: its activations are converted on their way into and out of the kernel that does compute."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluators.devices.kernel_table import KernelTable
from evaluators.devices.rates import PRECISIONS, Rates

__all__ = ["converted_by_fallback"]

Floats = NDArray[np.float64]
_INT8 = "int8"


def converted_by_fallback(converted: Floats, table: KernelTable, rates: Rates) -> Floats:
    """``converted``, ``[kernels, candidates]`` elements, and what fallbacks convert that cross between floats and integers.

    4-bit weights with float activations that a neural processor computes in 8-bit integers, for instance, or 8-bit integers on a unit that has floats only.
    """
    crosses = [(rates.runs_as(precision) == _INT8) != (precision == _INT8) for precision in PRECISIONS]
    if not any(crosses):
        return converted
    more: Floats = converted + np.where(np.array(crosses)[table.precision], table.moved, 0.0)
    return more
