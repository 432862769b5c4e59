"""How XNNPACK and ExecuTorch's embedding kernels store a weight, whatever a recipe asks for.

XNNPACK (``xnn_define_fully_connected``, ``xnn_define_convolution_2d``) has integer convolutions with static ranges and 8-bit weights; integer matrix products
with static ranges or ranges of each row, whose weights have 8 or 4 bits and one scale a channel, or 4 bits and a bfloat16 scale a group where ranges are
of each row; and float matrix products with such weights of one scale a channel. Its weights have no zero point. Tables of embeddings have 8, 4 or 2 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compressors.targets.site_spec import CHANNEL

__all__ = ["Forms", "forms"]


@dataclass(frozen=True, slots=True)
class Forms:
    """Arrays of one shape, an element a candidate.

    Attributes:
        integer: whether the weight is stored as integers; else as float32.
        bits: that are stored for each element.
        groups: elements that share a scale, or 0: those of a channel.
        integer_activations: whether the activation that enters becomes an integer, too.
        zero_points: whether scales are stored with zero points.
    """

    integer: NDArray[np.bool_]
    bits: NDArray[np.int64]
    groups: NDArray[np.int64]
    integer_activations: NDArray[np.bool_]
    zero_points: NDArray[np.bool_]


def forms(
    operator: str, inputs: ArrayLike, weight_bits: ArrayLike, activation_bits: ArrayLike, granularity: ArrayLike, symmetric: ArrayLike, dynamic: ArrayLike
) -> Forms:
    """What becomes of a weight; arguments are scalars or arrays of one shape.

    Args:
        operator: ``conv``, ``linear`` or ``embedding``.
        inputs: elements of a row of the weight.
        weight_bits: of the weight, 32 where it is float; see ``SiteSpec``, as for the next three.
        activation_bits: of what enters.
        granularity: of the scales.
        symmetric: whether no zero points are asked for.
        dynamic: whether ranges of activations are taken at run time.
    """
    columns, bits, activations, group, even, at_run_time = np.broadcast_arrays(inputs, weight_bits, activation_bits, granularity, symmetric, dynamic)
    integer = bits <= 8
    group = np.where((group > 0) & (columns % np.maximum(group, 1) == 0), group, CHANNEL)
    if operator == "embedding":
        stored = np.where((bits == 2) & (columns % 4 == 0), 2, np.where((bits <= 4) & (columns % 2 == 0), 4, 8))
        return Forms(integer, np.where(integer, stored, 32), np.where(integer, group, 0), np.zeros_like(integer), integer & ~even)
    integers = activations == 8
    if operator == "conv":
        integer = integer & integers & ~at_run_time
        return Forms(integer, np.where(integer, 8, 32), np.zeros_like(group), integer, np.zeros_like(integer))
    stored = np.where(bits <= 4, 4, 8)
    group = np.where(integer & integers & at_run_time & (stored == 4), group, CHANNEL)
    return Forms(integer, np.where(integer, stored, 32), group, integer & integers, np.zeros_like(integer))
