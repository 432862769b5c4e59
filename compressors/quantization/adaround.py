"""AdaRound [Nagel2020]_: whether each weight is rounded up or down is learned, so that the layer's outputs change least.

.. [Nagel2020] Nagel et al., Up or Down? Adaptive Rounding for Post-Training Quantization, ICML 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compressors.errors import DivergedError
from compressors.quantization.grid import Grid

__all__ = ["STEPS", "adaround"]

STEPS = 1000
"""Gradient steps a layer."""

_ROWS = 512
_RATE = 1e-2
_LOW, _HIGH = -0.1, 1.1
"""Ends that the sigmoid is stretched to."""
_SHARPNESS = (20.0, 2.0)
"""The regulariser's exponent at the beginning and at the end."""
_WARM_UP = 0.2
"""Share of the steps before the regulariser sets in."""
_WEIGHT = 1.0
"""Of the regulariser's mean over the weights, where the error is counted in that of nearest rounding."""


def adaround(weight: Tensor, inputs: Tensor, targets: Tensor, grid: Grid, *, bias: Tensor | None = None, steps: int = STEPS, seed: int = 0) -> Tensor:
    """The weight on its grid, each element one of the two values next to it, with about the least squared output error. Zeros stay zeros.

    Args:
        weight: ``[groups, outputs, inputs]``.
        inputs: that the quantized layer will see, ``[groups, rows, inputs]``.
        targets: what the layer returned before anything was quantized, without its bias, ``[groups, rows, outputs]``.
        grid: of the weight's shape.
        bias: ``[groups, 1, outputs]``, where a ReLU follows, so that only positive outputs count; else None.
        steps: gradient steps; see ``STEPS``.
        seed: of the rows that each step draws.

    Raises:
        DivergedError: inputs or targets are not finite.
    """
    if not bool(torch.isfinite(inputs).all() & torch.isfinite(targets).all()):
        raise DivergedError("adaround: inputs or outputs of a layer are not finite on calibration data")

    def error(rounded: Tensor, rows: Tensor | slice) -> Tensor:
        found, wanted = inputs[:, rows] @ rounded.transpose(1, 2), targets[:, rows]
        if bias is not None:
            found, wanted = torch.relu(found + bias), torch.relu(wanted + bias)
        return (found - wanted).square().mean()

    with torch.no_grad():
        below = (weight / grid.scale).floor()
        up = weight / grid.scale - below
        nearest = grid.nearest(weight)
        unit = error(nearest, slice(None)).clamp(min=1e-30)
    # The stretched sigmoid begins where the weight is: between its neighbours.
    start = ((up - _LOW) / (_HIGH - _LOW)).clamp(1e-4, 1 - 1e-4)
    v = torch.log(start / (1 - start)).requires_grad_()
    optimizer = torch.optim.Adam([v], lr=_RATE)
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        rows = torch.randint(inputs.shape[1], (min(_ROWS, inputs.shape[1]),), generator=generator).to(weight.device)
        share = (torch.sigmoid(v) * (_HIGH - _LOW) + _LOW).clamp(0, 1)
        loss = error(_placed(below + share, grid, weight), rows) / unit
        if step >= _WARM_UP * steps:
            loss = loss + _WEIGHT * (1 - (2 * share - 1).abs().pow(_sharpness(step / steps))).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships none for it
        optimizer.step()
    with torch.no_grad():
        rounded = _placed(below + (v > 0).float(), grid, weight)
        # Where learning has not helped (too few steps, weights that are almost on the grid), nothing is lost.
        return rounded if error(rounded, slice(None)) < unit else nearest


def _placed(integers: Tensor, grid: Grid, weight: Tensor) -> Tensor:
    values = ((integers + grid.zero).clamp(grid.lowest, grid.highest) - grid.zero) * grid.scale
    return torch.where(weight == 0, torch.zeros_like(values), values)


def _sharpness(done: float) -> float:
    """By a cosine, from the end of the warm-up on."""
    high, low = _SHARPNESS
    return low + (high - low) * (1 + math.cos((done - _WARM_UP) / (1 - _WARM_UP) * math.pi)) / 2
