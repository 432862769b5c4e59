"""Of images from 0 to 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.tasks.measures.jackknife import Floats

__all__ = ["IMAGE_TO_IMAGE"]

Arrays = NDArray[Any]

_MOST_DB = 100.0
"""Of images that are equal: their ratio of signal to noise is infinite, and of no use in a mean."""


def _mse(outputs: Arrays, labels: Arrays) -> Floats:
    wrong = np.square(outputs.astype(np.float64) - labels)
    return np.asarray(wrong.reshape(len(wrong), -1).mean(-1), dtype=np.float64)


def _psnr(outputs: Arrays, labels: Arrays) -> Floats:
    return np.asarray(np.minimum(-10 * np.log10(np.maximum(_mse(outputs, labels), 1e-30)), _MOST_DB), dtype=np.float64)


def _ssim(outputs: Arrays, labels: Arrays) -> Floats:
    try:
        from torchmetrics.functional.image import structural_similarity_index_measure
    except ImportError as error:
        raise UserError('data.metrics: ssim needs torchmetrics, which is not installed: pip install "compareto[text-metrics]"') from error
    import torch

    each = structural_similarity_index_measure(torch.from_numpy(outputs).float(), torch.from_numpy(labels).float(), data_range=1.0, reduction="none")
    assert isinstance(each, torch.Tensor)
    return np.asarray(each.numpy(), dtype=np.float64).reshape(-1)


IMAGE_TO_IMAGE: dict[str, Callable[[Arrays, Arrays], Floats]] = {"psnr": _psnr, "ssim": _ssim, "mse": _mse}
"""By name: outputs and labels ``[examples, channels, height, width]``. PSNR is in dB, the mean over images, as image restoration reports it."""
