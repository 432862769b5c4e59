"""Image classification: one label an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from evaluators.images import normalised
from evaluators.metric import Metric
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.quality import QUALITY

__all__ = ["ImageClassification"]


@dataclass
class ImageClassification(ArrayTask):
    """Images are stored as bytes and normalised when a batch is made."""

    name: str = "image-classification"
    quality: tuple[Metric, ...] = QUALITY["image-classification"]

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    augmentations: tuple[str, ...] = ()

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """uint8 ``[examples, channels, height, width]`` to normalised float32."""
        return {name: normalised(value, self.mean, self.std) for name, value in inputs.items()}

    @property
    def augments(self) -> bool:
        """Whether ``augment`` draws random numbers."""
        return bool(self.augmentations)

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
