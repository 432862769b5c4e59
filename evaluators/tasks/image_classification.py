"""Image classification: one label an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from evaluators.metric import Metric
from evaluators.tasks.array_task import ACCURACY, LOSS, ArrayTask

__all__ = ["ImageClassification", "decode_image"]


def decode_image(value: Any, size: int | None) -> NDArray[np.uint8]:
    """An image (PIL or array) as uint8 ``[channels, height, width]``, resized to ``size`` where given."""
    from PIL import Image

    image = value if isinstance(value, Image.Image) else Image.fromarray(np.asarray(value, dtype=np.uint8))
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


@dataclass
class ImageClassification(ArrayTask):
    """Images are stored as bytes and normalised when a batch is made."""

    name: ClassVar[str] = "image-classification"
    quality: ClassVar[tuple[Metric, ...]] = (ACCURACY, LOSS)

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    augmentations: tuple[str, ...] = ()

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """uint8 ``[examples, channels, height, width]`` to normalised float32."""
        mean = np.asarray(self.mean, dtype=np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, dtype=np.float32).reshape(1, -1, 1, 1)
        return {name: (value.astype(np.float32) / np.float32(255) - mean) / std for name, value in inputs.items()}

    def augment(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """Horizontal flips, and crops after padding by an eighth [He2016]."""
        ((name, images),) = inputs.items()
        if "flip" in self.augmentations:
            flip = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(flip[:, None, None, None], images.flip(-1), images)
        if "crop" in self.augmentations:
            height, width = images.shape[-2:]
            pad = max(1, height // 8)
            padded = functional.pad(images, (pad, pad, pad, pad))
            top = torch.randint(0, 2 * pad + 1, (len(images),), generator=generator)
            left = torch.randint(0, 2 * pad + 1, (len(images),), generator=generator)
            rows = (top[:, None] + torch.arange(height))[:, None, :, None]
            columns = (left[:, None] + torch.arange(width))[:, None, None, :]
            examples = torch.arange(len(images))[:, None, None, None]
            channels = torch.arange(images.shape[1])[None, :, None, None]
            images = padded[examples, channels, rows, columns]
        return {name: images}
