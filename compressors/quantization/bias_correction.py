"""Bias correction [Nagel2019]_: rounding shifts the mean of each output; the bias takes the shift back.

The shift is measured on calibration data (the paper's empirical variant).

.. [Nagel2019] Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction, ICCV 2019.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

__all__ = ["mean_shift"]


def mean_shift(wanted: Iterable[Tensor], found: Iterable[Tensor]) -> Tensor:
    """What has to be added to each output for its mean to be that of the float model, ``[outputs]``.

    Args:
        wanted: outputs of the float layer, tensors ``[rows, outputs]``.
        found: those of the quantized layer, of the same shapes.
    """
    total, rows = torch.zeros(()), 0
    for exact, rounded in zip(wanted, found, strict=True):
        total = total + (exact - rounded).double().sum(0)
        rows += len(exact)
    return (total / max(rows, 1)).float()
