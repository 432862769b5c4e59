"""Learned positions of vision transformers at another resolution: the grid is interpolated, tokens before it (class, distillation) stay [Dosovitskiy2021]_.

A parameter of positions is one whose name says so and that has a row for each patch of the image, and up to two more. Attributes that repeat the size of the
image, of the grid or the number of patches follow, those of configurations, too.

.. [Dosovitskiy2021] Dosovitskiy et al., An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale, ICLR 2021, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.errors import CompressionError
from compressors.sizing import Sizing

__all__ = ["has_positions", "resize_positions"]

_MOST_OTHERS = 2
_DONE = "compareto_input_size"
_SIZES = ("image_size", "img_size")
_GRIDS = ("grid_size", "patch_grid", "patch_shape")
_COUNTS = ("num_patches", "num_positions", "seq_length")


def resize_positions(model: nn.Module, sizing: Sizing) -> None:
    """Bring the positions of ``model`` to another size of images, in place; nothing where it has none, or has been brought there before.

    Raises:
        CompressionError: its patches do not fill images of that size.
    """
    located = _located(model, sizing)
    if located is None:
        return
    patch, found = located
    old, new = _grid(sizing.native, patch), _grid(sizing.size, patch)
    if any(size % p for size, p in zip(sizing.size, patch, strict=True)):
        step = max(patch)
        multiples = ", ".join(str(n) for n in range(step, min(sizing.native) + 1, step))
        raise CompressionError(f"the model's patches have {patch[0]}x{patch[1]} pixels; accepted: {multiples}")
    for name, value in found:
        _replace(model, name, value, old, new)
    _patch_attributes(model, sizing, old, new, _rows(found[0][1]) - old[0] * old[1])
    setattr(model, _DONE, sizing.size)


def has_positions(model: nn.Module, sizing: Sizing) -> bool:
    """Whether ``resize_positions`` would change anything."""
    return _located(model, sizing) is not None


def _located(model: nn.Module, sizing: Sizing) -> tuple[tuple[int, int], list[tuple[str, Tensor]]] | None:
    """The size of patches, and the positions of the native grid; None where there are none."""
    if sizing.kind != "image" or getattr(model, _DONE, None) == sizing.size:
        return None
    for patch in sorted(set(_patches(model)), reverse=True):
        cells = _grid(sizing.native, patch)[0] * _grid(sizing.native, patch)[1]
        found = [(name, value) for name, value in _named(model) if 0 <= _rows(value) - cells <= _MOST_OTHERS and cells > 0]
        if found:
            return patch, found
    return None


def _patches(model: nn.Module) -> Iterator[tuple[int, int]]:
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == module.stride and max(module.kernel_size) > 1:
            yield module.kernel_size[0], module.kernel_size[1]


def _named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Tensors that may hold positions: ``[1, rows, width]`` or ``[rows, width]``."""
    for name, value in model.named_parameters():
        if any("pos" in part for part in name.split(".")[-2:]) and (value.dim() == 2 or (value.dim() == 3 and value.shape[0] == 1)):
            yield name, value


def _rows(value: Tensor) -> int:
    return value.shape[-2]


def _grid(size: tuple[int, ...], patch: tuple[int, int]) -> tuple[int, int]:
    return size[0] // patch[0], size[1] // patch[1]


def _replace(model: nn.Module, name: str, value: Tensor, old: tuple[int, int], new: tuple[int, int]) -> None:
    others, width = _rows(value) - old[0] * old[1], value.shape[-1]
    rows = value.detach().reshape(-1, width)
    grid = rows[others:].reshape(1, *old, width).permute(0, 3, 1, 2)
    resized = functional.interpolate(grid.float(), new, mode="bicubic", antialias=True).to(value.dtype)
    joined = torch.cat([rows[:others], resized.permute(0, 2, 3, 1).reshape(-1, width)]).reshape(*value.shape[:-2], -1, width)
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(joined, value.requires_grad))


def _patch_attributes(model: nn.Module, sizing: Sizing, old: tuple[int, int], new: tuple[int, int], others: int) -> None:
    before, after = old[0] * old[1], new[0] * new[1]
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.num_embeddings = module.weight.shape[0]
        for holder in (module, getattr(module, "config", None)):
            if holder is None:
                continue
            for names, was, now in ((_SIZES, sizing.native, sizing.size), (_GRIDS, old, new)):
                for name in names:
                    _patch(holder, name, was, now)
            for name in _COUNTS:
                known = getattr(holder, name, None)
                if isinstance(known, int) and known in (before, before + others):
                    setattr(holder, name, after + known - before)
        ids = module._buffers.get("position_ids")  # noqa: SLF001 - buffers have no other door
        if ids is not None and ids.shape[-1] == before + others:
            module.register_buffer("position_ids", ids[..., : after + others].clone(), persistent="position_ids" not in module._non_persistent_buffers_set)  # noqa: SLF001


def _patch(holder: Any, name: str, was: tuple[int, ...], now: tuple[int, ...]) -> None:
    known = getattr(holder, name, None)
    if isinstance(known, tuple | list) and tuple(known) == was:
        setattr(holder, name, type(known)(now))
    elif isinstance(known, int) and was == (known, known):
        setattr(holder, name, now[0] if now[0] == now[1] else now)
