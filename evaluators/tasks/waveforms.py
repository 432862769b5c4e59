"""Recordings as arrays."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import wavfile

from compressors.errors import UserError

__all__ = ["waveforms"]


def waveforms(recordings: Sequence[Any], samples: int | None, place: str) -> NDArray[np.float32]:
    """``[recordings, samples]`` from -1 to 1, one channel: longer ones are cut, shorter ones filled with silence.

    Args:
        recordings: lists of samples, WAV files as bytes, paths, or ``{"bytes": ..., "path": ...}`` as ``datasets`` keeps them undecoded.
        samples: of each; None is the longest's.
        place: for messages.

    Raises:
        UserError: one is no recording.
    """
    found = [_one(i, recording, place) for i, recording in enumerate(recordings)]
    length = samples or max(len(one) for one in found)
    return np.stack([np.pad(one[:length], (0, max(0, length - len(one)))) for one in found])


def _one(i: int, recording: Any, place: str) -> NDArray[np.float32]:
    if isinstance(recording, dict):
        recording = recording.get("array") if recording.get("array") is not None else recording.get("bytes") or recording.get("path")
    try:
        if isinstance(recording, bytes | str):
            _, values = wavfile.read(io.BytesIO(recording) if isinstance(recording, bytes) else recording)
            if values.ndim > 1:
                values = values.mean(-1).astype(values.dtype)
            if values.dtype == np.uint8:
                return np.asarray((values.astype(np.float32) - 128) / 128, dtype=np.float32)
            return np.asarray(values / (-float(np.iinfo(values.dtype).min) if values.dtype.kind == "i" else 1.0), dtype=np.float32)
        values = np.asarray(recording, dtype=np.float32)
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{place}: recording {i} cannot be read: {error}; accepted: WAV, or a list of samples") from error
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UserError(f"{place}: recording {i} has the shape {list(values.shape)} or holds no numbers; accepted: WAV, or a list of samples")
    return values
