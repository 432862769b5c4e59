"""Inputs brought to a smaller size: images, texts and series, as arrays. Needs NumPy only: training, evaluation and a loaded artifact share it.

Resizing is bilinear with antialiasing, as ``interpolate(..., mode="bilinear", antialias=True)`` of torch and Pillow have it: each new pixel (or moment) is the
mean of what lies within one new pixel of its centre, weighted by a triangle. Texts are cut as their tokenizer cuts them: the special tokens at the end stay.
Where a model looks for the informative region itself, its inputs stay whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCORER", "How", "Kind", "Sizing", "in_scorer"]

Kind = Literal["image", "tokens", "series"]
SCORER = "compareto_scorer"
"""Name of the module inside a model that crops its images where they say most."""
How = Literal["resize", "crop", "informative", "truncate"]


@dataclass(frozen=True, slots=True)
class Sizing:
    """From inputs of one size to those of another.

    Attributes:
        kind: images ``[examples, channels, height, width]``, tokens ``[examples, tokens]``, or series ``[examples, time]`` or ``[examples, time, features]``.
        native: height and width, or length, of the data.
        size: of what comes out; with ``informative`` of what the model crops for itself.
        how: ``resize``, ``crop`` (the middle stays), ``informative`` (inputs stay whole: the model has a scorer that crops them) or, of tokens, ``truncate``.
        trailing: special tokens at the end of each text, which a cut leaves there.
        scorer: channels of the hidden layers of the scorer; 0 where there is none.
        channels: of the images, which the scorer reads; 0 where there is none.
    """

    kind: Kind
    native: tuple[int, ...]
    size: tuple[int, ...]
    how: How
    trailing: int = 0
    scorer: int = 0
    channels: int = 0

    @classmethod
    def from_plain(cls, data: Mapping[str, Any]) -> Self:
        """From what ``to_plain`` has made."""
        return cls(**{**data, "native": tuple(data["native"]), "size": tuple(data["size"])})

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        whole = {**asdict(self), "native": list(self.native), "size": list(self.size)}
        return whole if self.scorer else {name: value for name, value in whole.items() if name not in ("scorer", "channels")}

    @property
    def label(self) -> str:
        """Such as ``24x24`` or ``32``; of crops that a scorer of 8 channels chooses ``24x24-scorer8``."""
        return "x".join(map(str, self.size)) + (f"-scorer{self.scorer}" if self.scorer else "")

    def of(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Model inputs of the new size; texts that are short enough stay as they are."""
        if self.how == "informative":
            return {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        if self.kind == "tokens":
            kept = self.kept(inputs)
            return {name: np.ascontiguousarray(value if kept is None else np.take_along_axis(value, kept, 1)) for name, value in inputs.items()}
        first = 2 if self.kind == "image" else 1
        found = {}
        for name, value in inputs.items():
            sized = value
            for axis, size in enumerate(self.size, first):
                sized = _cropped(sized, axis, size) if self.how == "crop" else _resized(sized, axis, size)
            found[name] = np.ascontiguousarray(sized)
        return found

    def kept(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.int64] | None:
        """Positions of the tokens that stay, ``[examples, tokens]``; None where all do."""
        examples, longest = next(iter(inputs.values())).shape
        (size,) = self.size
        if longest <= size:
            return None
        mask = inputs.get("attention_mask")
        lengths = np.full(examples, longest) if mask is None else np.asarray(mask.sum(1), dtype=np.int64)
        positions = np.tile(np.arange(size, dtype=np.int64), (examples, 1))
        cut = lengths > size
        if self.trailing:
            positions[cut, size - self.trailing :] = lengths[cut, None] - self.trailing + np.arange(self.trailing)
        return positions


def _cropped(values: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    start = (values.shape[axis] - size) // 2
    return values if start <= 0 and values.shape[axis] == size else np.take(values, np.arange(start, start + size), axis)


def _resized(values: NDArray[Any], axis: int, size: int) -> NDArray[Any]:
    if values.shape[axis] == size:
        return values
    moved = np.matmul(np.moveaxis(values, axis, -1), _weights(values.shape[axis], size).astype(values.dtype, copy=False))
    return np.moveaxis(moved, -1, axis)


@cache
def _weights(before: int, after: int) -> NDArray[np.float32]:
    """Of each old position in each new one, ``[before, after]``."""
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale
    distances = np.abs(np.arange(before)[:, None] + 0.5 - centres) / max(scale, 1.0)
    weights = np.clip(1 - distances, 0, None)
    return np.asarray(weights / weights.sum(0), dtype=np.float32)


def in_scorer(name: str) -> bool:
    """Whether a module, parameter or axis of that name belongs to a model's scorer of crops, which steps leave as it was taught."""
    return name == SCORER or name.startswith(f"{SCORER}.")
