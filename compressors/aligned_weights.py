"""Writing safetensors so that weights which are mapped into memory lie as torch would lay them.

Kernels take another path, and round differently, where a matrix does not start at a multiple of 64 bytes. ``from_pretrained`` maps the file, in which tensors
follow one another without gaps: so the header is filled up, and tensors of odd sizes come last.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

__all__ = ["write_weights"]

_ALIGNMENT = 64
_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors that share no memory, in the format of ``safetensors``.

    Raises:
        KeyError: a type that the format does not have.
        OSError: the file cannot be written.
    """
    raw = {
        name: tensor.detach().cpu().contiguous().view(-1).view(torch.uint8) if tensor.numel() else torch.zeros(0, dtype=torch.uint8)
        for name, tensor in state.items()
    }
    # Of odd sizes, those of wide elements first: each has to start at a multiple of its element.
    order = sorted(state, key=lambda name: (len(raw[name]) % _ALIGNMENT != 0, -state[name].element_size(), state[name].dim() < 2, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name in order:
        end = start + len(raw[name])
        header[name] = {"dtype": _TYPES[state[name].dtype], "shape": list(state[name].shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            stream.write(raw[name].numpy().tobytes())
