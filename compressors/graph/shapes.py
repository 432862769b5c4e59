"""``Shapes``: the one currency between recipe, cost and search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

__all__ = ["Shapes"]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Widths and bit-widths of a batch of candidates.

    Attributes:
        widths: ``[candidates, axes]`` units kept on each axis of the graph (all axes, fixed ones too), int64.
        weight_bits: ``[candidates, sites]`` bits of each weight; 32 is the unquantized float.
        activation_bits: ``[candidates, sites]`` bits of the activation that enters each site; 32 is float.
        granularity: ``[candidates, sites]`` of each weight's scales: -1 one a tensor, 0 one a channel, else the size of a group along the input.
        symmetric: ``[candidates, sites]`` whether weights have no zero points.
        dynamic: ``[candidates]`` whether activations are quantized at run time rather than with calibrated ranges.
    """

    widths: NDArray[np.int64]
    weight_bits: NDArray[np.int64]
    activation_bits: NDArray[np.int64]
    granularity: NDArray[np.int64]
    symmetric: NDArray[np.bool_]
    dynamic: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.widths)

    def __getitem__(self, rows: slice) -> Shapes:
        return Shapes(*(getattr(self, field.name)[rows] for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Shapes]) -> Shapes:
        """One batch from several, in order."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))
