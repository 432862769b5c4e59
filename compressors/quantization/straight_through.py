"""Fake quantization with a gradient: rounding passes it straight through, clipping stops it, and a scale receives the one of [Esser2020]_.

.. [Esser2020] Esser et al., Learned Step Size Quantization, ICLR 2020.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["fake_quantize", "pass_through"]


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int, *, inverse: bool = False) -> Tensor:
    """Quantized and dequantized values.

    Args:
        x: of any shape.
        scale: broadcasts to it.
        zero_point: of the shape of ``scale``; receives no gradient.
        lowest: the least integer that is available.
        highest: the largest.
        inverse: whether values are multiplied by the inverse of the scale, as PT2E's operators do for activations; the last bit may differ.
    """
    values: Tensor = _FakeQuantize.apply(x, scale, zero_point, lowest, highest, inverse)  # type: ignore[no-untyped-call]
    return values


class _FakeQuantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, lowest: int, highest: int, inverse: bool) -> Tensor:
        values = x * (1 / scale) if inverse else x / scale
        inside = (values >= lowest - zero_point).logical_and_(values <= highest - zero_point)
        values.round_().add_(zero_point).clamp_(lowest, highest).sub_(zero_point).mul_(scale)
        ctx.save_for_backward(x, scale, values, inside)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, values, inside = ctx.saved_tensors
        passed = gradient * inside
        if not ctx.needs_input_grad[1]:
            return passed, None, None, None, None, None
        # Of each value: what rounding has added to it, in steps, where it is not clipped; else its integer.
        return passed, (gradient * values).sub_(passed * x).sum_to_size(scale.shape).div_(scale), None, None, None, None


def pass_through(x: Tensor, values: Tensor) -> Tensor:
    """``values``, whose gradient is that of ``x``, from which they were made; both of one shape."""
    passed: Tensor = _PassThrough.apply(x, values)  # type: ignore[no-untyped-call]
    return passed


class _PassThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor) -> Tensor:  # noqa: ARG004 - the signature of autograd
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004 - the signature of autograd
        return gradient, None
