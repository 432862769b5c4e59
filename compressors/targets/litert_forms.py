"""How TFLite files hold the weight of one site: which kernels read it, in how many bits.

Convolutions run in integers with 8-bit weights only: those of 4 bits have no optimised kernel, and floats are faster. Integer kernels have no zero point for
weights and take no groups, but for linear layers whose activations are quantized at run time: these read 4-bit weights in groups. Embeddings are looked up in
any width, in groups below 8 bits. What remains is stored behind a DEQUANTIZE that runs once, when the file is loaded.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["container_of", "runs_integer"]


def container_of(weight_bits: Any, calibrated: Any = False) -> NDArray[np.int64]:
    """Bits that are stored for each weight: 3 bits are held in 4, and 2 where kernels run on calibrated activations, which read 4 and 8."""
    bits = np.asarray(weight_bits)
    return np.where((bits == 3) | ((bits == 2) & calibrated), 4, bits)


def runs_integer(operator: str, weight_bits: Any, activation_bits: Any, granularity: Any, dynamic: Any) -> NDArray[np.bool_]:
    """Whether activations are integers, too.

    Args:
        operator: ``conv``, ``linear`` or ``embedding``.
        weight_bits: see ``SiteSpec``; arrays broadcast.
        activation_bits: see ``SiteSpec``.
        granularity: the effective one.
        dynamic: whether ranges are taken at run time.
    """
    weights, activations, groups, dynamic = np.asarray(weight_bits), np.asarray(activation_bits), np.asarray(granularity) > 0, np.asarray(dynamic)
    if operator == "embedding":
        return np.zeros(np.broadcast_shapes(weights.shape, activations.shape, groups.shape, dynamic.shape), dtype=np.bool_)
    at_run_time = (operator == "linear") & (activations == 8) & (~groups | (container_of(weights) == 4))
    calibrated = (activations <= 16) & ~groups & ((weights == 8) | ((activations == 8) & (operator == "linear")))
    integers: NDArray[np.bool_] = (weights <= 8) & np.where(dynamic, at_run_time, calibrated)
    return integers
