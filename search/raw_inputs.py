"""From texts, images or numbers to the inputs that an artifact's model takes. Needs NumPy, and Pillow or ``tokenizers``; never torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from compressors.sizing import Sizing
from evaluators.images import decode_image, normalised

__all__ = ["RawArrays", "RawImages", "RawTexts", "made_smaller", "native_signature", "raw_inputs_of", "smaller_pixels"]


class RawImages:
    """Images to one array.

    Args:
        signature: of the artifact. Where its graph normalises, the pixels stay as they are decoded.
    """

    def __init__(self, signature: Mapping[str, Any]) -> None:
        self._described = signature["preprocessing"]
        self.name: str = self._described["input"]
        self._dtype = signature["inputs"][self.name]["dtype"]
        self._last = self._described.get("layout") == "nhwc"
        shape = [int(n) for n in self._described["shape"]]
        self._channels, self._height, self._width = (shape[2], *shape[:2]) if self._last else shape
        self._sizing = _sizing(signature)

    def __call__(self, images: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """PIL images, uint8 arrays (``[height, width]`` or ``[height, width, 3]``), encoded bytes or paths.

        Raises:
            UserError: one is no image.
        """
        pixels = np.stack([self._one(i, image) for i, image in enumerate(images)])
        if self._dtype == "uint8":
            if self._sizing is not None:
                pixels = _smaller_pixels(self._sizing, pixels)
            return {self.name: np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)) if self._last else pixels}
        inputs = {self.name: normalised(pixels, self._described["mean"], self._described["std"]).astype(self._dtype)}
        return inputs if self._sizing is None else self._sizing.of(inputs)

    def _one(self, i: int, image: Any) -> NDArray[np.uint8]:
        if isinstance(image, np.ndarray) and image.dtype != np.uint8:
            raise UserError(f"image {i} is an array of {image.dtype}; accepted: uint8, [height, width] or [height, width, 3]")
        try:
            found = decode_image(image, (self._height, self._width))
        except MemoryError:
            raise
        except Exception as error:
            # Pillow's readers raise classes of their own, and SyntaxError, for a file that begins well and is broken further on.
            raise UserError(
                f"image {i} is no image: {error}; accepted: a PIL image, a uint8 array [height, width] or [height, width, 3], bytes or a path"
            ) from error
        if self._channels == 1 and len(found) == 3:
            # The weights of luminance (ITU-R 601-2), as Pillow's conversion to grey has them.
            from PIL import Image

            found = np.asarray(Image.fromarray(found.transpose(1, 2, 0)).convert("L"), dtype=np.uint8)[None]
        return np.broadcast_to(found, (self._channels, *found.shape[1:])) if self._channels != len(found) else found


class RawTexts:
    """Texts to token numbers and masks, by the artifact's own ``tokenizer.json``.

    Args:
        folder: the artifact.
        signature: of it. Where it leaves the number of tokens open, texts are padded to the longest of a batch.

    Raises:
        UserError: there is no ``tokenizer.json``.
    """

    def __init__(self, folder: Path, signature: Mapping[str, Any]) -> None:
        from tokenizers import Tokenizer

        described = folder / signature["preprocessing"].get("tokenizer", "tokenizer")
        path = described / "tokenizer.json"
        if not path.is_file():
            raise UserError(f"{path} is missing: texts can only be tokenised by a fast tokenizer; pass a dict of arrays instead")
        self._tokenizer = Tokenizer.from_file(str(path))
        settings = _read(described / "tokenizer_config.json")
        token = settings.get("pad_token") or _read(described / "special_tokens_map.json").get("pad_token")
        text = token.get("content") if isinstance(token, dict) else token
        number = self._tokenizer.token_to_id(text) if text else None
        self._inputs = signature["inputs"]
        length = next(iter(self._inputs.values()))["shape"][1]
        self._tokenizer.enable_truncation(int(signature["preprocessing"]["sequence"]), direction=settings.get("truncation_side", "right"))
        self._tokenizer.enable_padding(
            direction=settings.get("padding_side", "right"),
            pad_id=number if number is not None else 0,
            pad_token=text if number is not None else "",
            length=length if isinstance(length, int) else None,
        )

    def __call__(self, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
        """``input_ids`` and what else the model takes, ``[texts, tokens]`` each.

        Raises:
            UserError: one is no text.
        """
        odd = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if odd is not None:
            raise UserError(f"text {odd} is {texts[odd]!r}; accepted: texts")
        found = self._tokenizer.encode_batch(list(texts))
        columns = {"input_ids": [e.ids for e in found], "attention_mask": [e.attention_mask for e in found], "token_type_ids": [e.type_ids for e in found]}
        return {name: np.array(columns[name], dtype=described["dtype"]) for name, described in self._inputs.items() if name in columns}


class RawArrays:
    """Series and recordings: lists of numbers.

    Args:
        signature: of the artifact. Where its model takes shorter ones than the data has, they are made shorter.
    """

    def __init__(self, signature: Mapping[str, Any]) -> None:
        self.name, described = next(iter(signature["inputs"].items()))
        self._sizing = _sizing(signature)
        shape = described["shape"][1:] if self._sizing is None else signature["preprocessing"]["shape"]
        self._dtype, self._shape = described["dtype"], [int(n) for n in shape]

    def __call__(self, series: Sequence[Any]) -> dict[str, NDArray[Any]]:
        """Arrays of the shape that the model takes.

        Raises:
            UserError: one has another shape, or holds something else than numbers.
        """
        found = []
        for i, one in enumerate(series):
            try:
                array = np.asarray(one, dtype=self._dtype)
            except (TypeError, ValueError) as error:
                raise UserError(f"series {i} holds something else than numbers: {error}; accepted: numbers of the shape {self._shape}") from error
            if list(array.shape) != self._shape:
                raise UserError(f"series {i} has the shape {list(array.shape)}; accepted: {self._shape}")
            found.append(array)
        inputs = {self.name: np.stack(found)}
        return inputs if self._sizing is None else self._sizing.of(inputs)


def raw_inputs_of(folder: Path, signature: Mapping[str, Any]) -> RawImages | RawTexts | RawArrays:
    """What prepares the raw inputs of an artifact."""
    described = signature["preprocessing"]
    return RawTexts(folder, signature) if "tokenizer" in described else RawImages(signature) if "mean" in described else RawArrays(signature)


def native_signature(signature: Mapping[str, Any]) -> dict[str, Any]:
    """The same for the model at the data's size, before ``input_size``: what the uncompressed one takes."""
    sizing = _sizing(signature)
    if sizing is None:
        return dict(signature)
    described = {name: value for name, value in signature["preprocessing"].items() if name != "input_size"}
    if sizing.kind == "tokens":
        described["sequence"] = sizing.native[0]
    inputs = {name: {**described, "shape": _native_shape(signature, sizing, described["shape"])} for name, described in signature["inputs"].items()}
    return {**signature, "preprocessing": described, "inputs": inputs}


def made_smaller(signature: Mapping[str, Any], inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Model inputs that have the size of the data, as the artifact's model takes them; others stay as they are."""
    sizing = _sizing(signature)
    native = native_signature(signature)["inputs"]
    if sizing is None or any(name not in inputs or list(inputs[name].shape[1:]) != described["shape"][1:] for name, described in native.items()):
        return dict(inputs)
    described = signature["preprocessing"]
    if "in_graph" not in described:
        return sizing.of(inputs)
    return smaller_pixels(sizing, described["layout"], inputs)


def smaller_pixels(sizing: Sizing, layout: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """uint8 images of the size of the data, in a layout, as a model that takes smaller pixels does."""
    if layout == "nchw":
        return {name: _smaller_pixels(sizing, value) for name, value in inputs.items()}
    return {name: np.ascontiguousarray(_smaller_pixels(sizing, value.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)) for name, value in inputs.items()}


def _smaller_pixels(sizing: Sizing, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 ``[examples, channels, height, width]`` to uint8 of the new size."""
    (sized,) = sizing.of({"pixels": pixels.astype(np.float32)}).values()
    return np.asarray(np.clip(np.rint(sized), 0, 255), dtype=np.uint8)


def _native_shape(signature: Mapping[str, Any], sizing: Sizing, shape: list[Any]) -> list[Any]:
    first = 1 if sizing.kind != "image" or signature["preprocessing"].get("layout") == "nhwc" else 2
    return [*shape[:first], *(n if isinstance(m, int) else m for n, m in zip(sizing.native, shape[first:], strict=False)), *shape[first + len(sizing.native) :]]


def _sizing(signature: Mapping[str, Any]) -> Sizing | None:
    described = signature["preprocessing"].get("input_size")
    return None if described is None else Sizing.from_plain(described)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
