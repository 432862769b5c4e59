"""GPTQ [Frantar2023]_: weights are rounded column by column, and the columns that follow make up for the error of those before.

The error that counts is that of the layer's outputs, whose squares are a quadratic form in the second moments of its inputs. What torchao has of it
(``prototype.gptq``) wraps the weights of live modules in tensor classes of its own formats; here scales and zero points are frozen before, in any granularity,
and the result is a weight that lies on their grid.

.. [Frantar2023] Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers, ICLR 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

from compressors.errors import DivergedError
from compressors.quantization.grid import Grid

__all__ = ["gptq", "output_error"]

_DAMPING = (0.01, 0.1, 1.0, 10.0)
"""Of the mean of the diagonal, added to it; the next one where the matrix has no Cholesky factor."""
_BLOCK = 128


def output_error(difference: Tensor, moments: Tensor) -> float:
    """Sum of the squared errors of a layer's outputs.

    Args:
        difference: of two weights, ``[groups, outputs, inputs]``.
        moments: sum of ``x x^T`` over inputs x, ``[groups, inputs, inputs]``.
    """
    return float(((difference.to(moments) @ moments) * difference).sum())


def gptq(weight: Tensor, moments: Tensor, grid: Grid) -> Tensor:
    """The weight on its grid whose layer has about the least squared output error. Weights that are zero stay zero.

    Columns are taken in the order of the size of their inputs, the largest first ("act-order"); inputs that are always zero are rounded to nearest.

    Args:
        weight: ``[groups, outputs, inputs]``.
        moments: sum (or mean) of ``x x^T`` over inputs x, ``[groups, inputs, inputs]``.
        grid: of this shape.

    Raises:
        DivergedError: the moments are not finite.
    """
    if not bool(torch.isfinite(moments).all()):
        raise DivergedError("gptq: inputs of a layer are not finite on calibration data")
    order = moments.diagonal(dim1=-2, dim2=-1).argsort(dim=-1, descending=True)
    columns = order[:, None, :].expand_as(weight)
    left = weight.gather(2, columns).float()
    scale, zero, kept = grid.scale.gather(2, columns), grid.zero.gather(2, columns), left != 0
    factor = _inverse_factor(moments.double().gather(1, order[:, :, None].expand_as(moments)).gather(2, order[:, None, :].expand_as(moments))).float()
    rounded = torch.empty_like(left)
    for start in range(0, left.shape[2], _BLOCK):
        end = min(start + _BLOCK, left.shape[2])
        errors = torch.empty_like(left[:, :, start:end])
        for j in range(start, end):
            value = left[:, :, j]
            nearest = ((value / scale[:, :, j]).round() + zero[:, :, j]).clamp(grid.lowest, grid.highest) - zero[:, :, j]
            rounded[:, :, j] = nearest * scale[:, :, j] * kept[:, :, j]
            error = (value - rounded[:, :, j]) / factor[:, j, j, None]
            left[:, :, j:end] -= error[:, :, None] * factor[:, None, j, j:end]
            errors[:, :, j - start] = error
        left[:, :, end:] -= errors @ factor[:, start:end, end:]
    return torch.empty_like(rounded).scatter_(2, columns, rounded)


def _inverse_factor(moments: Tensor) -> Tensor:
    """The upper Cholesky factor of the inverse, after damping."""
    diagonal = moments.diagonal(dim1=-2, dim2=-1)
    # An input that is always zero says nothing: its column is rounded for itself.
    mean = diagonal.mean(-1, keepdim=True).clamp(min=1e-30)
    diagonal = torch.where(diagonal > 0, diagonal, mean)
    for damping in _DAMPING:
        damped = moments + torch.diag_embed(diagonal + damping * mean - moments.diagonal(dim1=-2, dim2=-1))
        lower, failed = torch.linalg.cholesky_ex(damped)
        if bool(failed.any()):
            continue
        upper: Tensor
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not bool(failed.any()):
            return upper
    raise DivergedError("gptq: second moments of a layer's inputs have no Cholesky factor")
