"""Linear layers and convolutions as what they are: matrix products of rows, one matrix a group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

__all__ = ["LayerRows", "rows_of"]

_aten = torch.ops.aten
_CONVOLUTIONS = {_aten.conv1d.default: 1, _aten.conv2d.default: 2}


@dataclass(frozen=True, slots=True)
class LayerRows:
    """A layer of an exported graph.

    Attributes:
        input, weight, bias: its arguments.
        spatial: dimensions that a kernel slides over, 0 for a linear layer.
        groups: of a convolution.
        kernel, stride, padding, dilation: of a convolution, two each.
    """

    input: fx.Node
    weight: fx.Node
    bias: fx.Node | None
    spatial: int = 0
    groups: int = 1
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def matrix(self, weight: Tensor) -> Tensor:
        """``[groups, outputs, inputs]`` of a weight ``[outputs, inputs, ...]``."""
        return weight.reshape(self.groups, weight.shape[0] // self.groups, -1)

    def inputs(self, x: Tensor) -> Tensor:
        """``[rows, groups, inputs]``: of every place, what the kernel covers."""
        if not self.spatial:
            return x.reshape(-1, 1, x.shape[-1])
        image = x if self.spatial == 2 else x.unsqueeze(2)
        patches = functional.unfold(image, self.kernel, self.dilation, self.padding, self.stride)
        return patches.transpose(1, 2).reshape(-1, self.groups, patches.shape[1] // self.groups)

    def outputs(self, y: Tensor) -> Tensor:
        """``[rows, outputs]``, in the order of ``inputs``."""
        return y.flatten(2).transpose(1, 2).flatten(0, 1) if self.spatial else y.reshape(-1, y.shape[-1])


def rows_of(node: fx.Node, weight_shape: Sequence[int]) -> LayerRows | None:
    """The layer that a node is whose weight has this shape; None for other operators."""
    arguments: list[Any] = [*node.args, *[None] * 7]
    source, weight, bias = arguments[:3]
    if node.target is _aten.linear.default:
        return LayerRows(source, weight, bias)
    if node.target not in _CONVOLUTIONS or not isinstance(arguments[4] or 0, (int, list, tuple)):
        return None
    spatial = _CONVOLUTIONS[node.target]
    return LayerRows(
        source,
        weight,
        bias,
        spatial,
        int(arguments[6] or 1),
        _pair(weight_shape[2:], spatial, 1),
        _pair(arguments[3], spatial, 1),
        _pair(arguments[4], spatial, 0),
        _pair(arguments[5], spatial, 1),
    )


def _pair(values: Sequence[int] | int | None, spatial: int, default: int) -> tuple[int, int]:
    """Of both dimensions of an image; that of a sequence has one row."""
    given = [default] if values is None else [values] if isinstance(values, int) else list(values) or [default]
    last = int(given[-1])
    return (default, last) if spatial == 1 else (int(given[0]), last)
