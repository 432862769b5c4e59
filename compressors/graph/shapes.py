"""``Shapes``: the one currency between recipe, cost and search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shapes"]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Widths and bit-widths of a batch of candidates.

    Attributes:
        widths: ``[candidates, axes]`` units kept on each axis of the graph (all axes, fixed ones too), int64.
        weight_bits: ``[candidates, sites]`` bits of each weight; 32 is the unquantized float.
        activation_bits: ``[candidates, sites]`` bits of the activation that enters each site; 16 and above is float.
        dynamic: ``[candidates]`` whether activations are quantized at run time rather than with calibrated ranges.
    """

    widths: NDArray[np.int64]
    weight_bits: NDArray[np.int64]
    activation_bits: NDArray[np.int64]
    dynamic: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, rows: slice) -> Shapes:
        return Shapes(self.widths[rows], self.weight_bits[rows], self.activation_bits[rows], self.dynamic[rows])

    @classmethod
    def concatenate(cls, parts: Sequence[Shapes]) -> Shapes:
        """One batch from several, in order."""
        return cls(
            np.concatenate([p.widths for p in parts]),
            np.concatenate([p.weight_bits for p in parts]),
            np.concatenate([p.activation_bits for p in parts]),
            np.concatenate([p.dynamic for p in parts]),
        )
