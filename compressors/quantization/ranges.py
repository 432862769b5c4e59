"""Ranges of values that are to become integers: of activations from a histogram, of weights from their values."""

from __future__ import annotations

import torch
from torch import Tensor
from torchao.quantization.pt2e import HistogramObserver

from compressors.targets.site_spec import Observer, WeightRange

__all__ = ["PERCENTILE", "activation_range", "scale_of", "weight_range"]

PERCENTILE = 99.99
"""Share of the values, in percent, that lies within the range of ``percentile``; half of the others is cut off on either side."""

_SHRINKS = 32
_EPSILON = 2.0**-100


def activation_range(histogram: HistogramObserver, method: Observer, levels: int) -> tuple[Tensor, Tensor]:
    """Lowest and highest value that an activation keeps.

    Args:
        histogram: of the calibration data.
        method: ``min-max``: everything; ``percentile``: see ``PERCENTILE``; ``mse``: least squared error of the quantized
            values; ``entropy``: least Kullback-Leibler divergence of the quantized distribution [Migacz2017].
        levels: integers that are available.
    """
    low, high = histogram.min_val, histogram.max_val
    if method == "min-max" or not bool(high > low):
        return low, high
    if method == "mse":
        low, high = histogram._non_linear_param_search()  # noqa: SLF001 - the search is not public, its result is what the observer uses itself
        return low, high
    counts = histogram.histogram.double()
    edges = torch.linspace(float(low), float(high), len(counts) + 1, dtype=torch.float64)
    if method == "percentile":
        share = torch.cumsum(counts, 0) / counts.sum()
        cut = (100 - PERCENTILE) / 200
        first, last = int((share <= cut).sum()), int((share < 1 - cut).sum())
        return edges[first].to(low), edges[last + 1].to(high)
    return _least_divergence(counts, edges, low, high, levels)


def _least_divergence(counts: Tensor, edges: Tensor, low: Tensor, high: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    middles = (edges[1:] + edges[:-1]) / 2
    whole = counts / counts.sum()
    best, found = float("inf"), (low, high)
    for shrink in torch.linspace(1, 0.2, _SHRINKS, dtype=torch.float64):
        bottom, top = edges[0] * shrink, edges[-1] * shrink
        step = (top - bottom) / (levels - 1)
        level = ((middles.clamp(bottom, top) - bottom) / step).round().long()
        # Each level's share is spread evenly over the bins that are in use and rounded to it; what is cut off is in the outermost ones.
        used = (whole > 0).double()
        mass, bins = torch.zeros(levels, dtype=torch.float64), torch.zeros(levels, dtype=torch.float64)
        inside = (middles >= bottom) & (middles <= top)
        mass.index_add_(0, level[inside], whole[inside])
        bins.index_add_(0, level[inside], used[inside])
        clipped = torch.zeros_like(whole).index_add_(0, _nearest_inside(inside), whole)
        spread = torch.where(inside, used * (mass / bins.clamp(min=1))[level], torch.zeros_like(whole))
        counted = clipped > 0
        divergence = float((clipped[counted] * (clipped[counted] / spread[counted].clamp(min=1e-12)).log()).sum())
        if divergence < best:
            best, found = divergence, (bottom.to(low), top.to(high))
    return found


def _nearest_inside(inside: Tensor) -> Tensor:
    first, last = int(inside.double().argmax()), len(inside) - 1 - int(inside.flip(0).double().argmax())
    return torch.arange(len(inside)).clamp(first, last)


def scale_of(low: Tensor, high: Tensor, lowest: int, highest: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scale and zero point (int64) of integers ``lowest`` to ``highest`` for values from ``low`` to ``high``; zero is always one of them."""
    low, high = low.clamp(max=0), high.clamp(min=0)
    if symmetric:
        scale = torch.maximum(-low, high) / highest
        return torch.where(scale > _EPSILON, scale, torch.ones_like(scale)), torch.zeros_like(scale, dtype=torch.int64)
    scale = (high - low) / (highest - lowest)
    scale = torch.where(scale > _EPSILON, scale, torch.ones_like(scale))
    return scale, (lowest - (low / scale).round()).clamp(lowest, highest).long()


def weight_range(rows: Tensor, method: WeightRange, lowest: int, highest: int, *, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Scale and zero point of each row of ``[rows, values]``.

    ``mse`` shrinks the whole range step by step and keeps what has the least squared error; with 8 bits that is the whole range or nearly so.
    """
    low, high = rows.amin(1), rows.amax(1)
    scale, zero = scale_of(low, high, lowest, highest, symmetric=symmetric)
    if method == "min-max":
        return scale, zero
    best = _squared_error(rows, scale, zero, lowest, highest)
    for shrink in torch.linspace(1, 0.3, _SHRINKS)[1:]:
        tried, zeros = scale_of(low * shrink, high * shrink, lowest, highest, symmetric=symmetric)
        error = _squared_error(rows, tried, zeros, lowest, highest)
        better = error < best
        best, scale, zero = torch.where(better, error, best), torch.where(better, tried, scale), torch.where(better, zeros, zero)
    return scale, zero


def _squared_error(rows: Tensor, scale: Tensor, zero: Tensor, lowest: int, highest: int) -> Tensor:
    integers = ((rows / scale[:, None]).round() + zero[:, None]).clamp(lowest, highest)
    return ((integers - zero[:, None]) * scale[:, None] - rows).square().sum(1)
