"""Images as arrays: what training, evaluation and a loaded artifact do with raw pixels. Needs Pillow and NumPy only."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_image", "normalised"]


def decode_image(value: Any, size: int | tuple[int, int] | None) -> NDArray[np.uint8]:
    """An image as uint8 ``[channels, height, width]``.

    Args:
        value: PIL image, uint8 array (``[height, width]`` or ``[height, width, 3]``), encoded bytes or the path of a file.
        size: height and width to resize to, one number where they are the same; None keeps them.
    """
    from PIL import Image

    if isinstance(value, bytes | str | Path):
        image: Any = Image.open(io.BytesIO(value) if isinstance(value, bytes) else value)
    else:
        image = value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value, dtype=np.uint8))
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    height, width = (size, size) if isinstance(size, int) else size or (image.height, image.width)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def normalised(pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """uint8 ``[examples, channels, height, width]`` as float32: scaled to [0, 1], then by mean and deviation of each channel."""
    shift = np.asarray(mean, dtype=np.float32).reshape(1, -1, 1, 1)
    divisor = np.asarray(std, dtype=np.float32).reshape(1, -1, 1, 1)
    return (pixels.astype(np.float32) / np.float32(255) - shift) / divisor
