"""The layers of measured networks as fused kernels: reads the JSON that lists, for every network, its layers with their shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressors.errors import UserError, near_miss

__all__ = ["CLASSES", "PRODUCTS", "MeasuredKernel", "read_layers"]

_NEEDED = ("op", "class", "inputs", "outputs", "input_elements", "output_elements", "macs", "weights")
_CLASSES = {"conv3x3s1": "conv3x3", "gemv": "gemm", "pool": "pooling", "memory": "movement", "normalisation": "normalization"}
_OPS = {
    # What takes an exponential or a power of every element, and what is a comparison or a product: the file has one class for each pair.
    "Swish": "activation",
    "Sigmoid": "activation",
    "GELU": "activation",
    "Mish": "activation",
    "TanH": "activation",
    "ELU": "activation",
    "SELU": "activation",
    "ReLU": "elementwise",
    "Clip": "elementwise",
    "HardSwish": "elementwise",
    "HardSigmoid": "elementwise",
    "BatchNorm": "elementwise",
    "Softmax": "softmax",
    "LRN": "softmax",
    "Reduction": "reduction",
}
PRODUCTS = ("conv3x3", "conv", "pointwise", "depthwise", "grouped", "gemm", "matmul", "attention")
CLASSES = (*PRODUCTS, "normalization", "softmax", "activation", "elementwise", "pooling", "reduction", "movement", "embedding")
_ALIASES = frozenset(("Split", "Reshape", "Flatten", "Noop"))


@dataclass(frozen=True, slots=True)
class MeasuredKernel:
    """A kernel of a network whose time was measured.

    Attributes:
        op_class: as in ``compressors.graph``.
        macs, weights, inputs, outputs: multiply-accumulates and elements.
        integer: whether it computes in 8-bit integers.
        converted: elements that are converted between float and integers on its way in and out.
        launches: products that it consists of: a grouped convolution is computed group by group.
    """

    op_class: str
    macs: float
    weights: float
    inputs: float
    outputs: float
    integer: bool
    converted: float
    launches: float


def read_layers(path: Path) -> dict[str, tuple[MeasuredKernel, ...]]:
    """Kernels of every network in the file.

    Raises:
        UserError: the file cannot be read, is not of this form, or a network has no layers that cost anything.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"layers {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"layers {path}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"layers {path}: expected an object with a list of layers for every network, got {type(data).__name__}")
    return {str(name): _network(f"layers {path}: {name}", layers) for name, layers in data.items()}


def _network(place: str, layers: Any) -> tuple[MeasuredKernel, ...]:
    if not isinstance(layers, list) or not layers:
        raise UserError(f"{place} has no layers; expected a list of objects with {', '.join(_NEEDED)}")
    for i, layer in enumerate(layers):
        if not isinstance(layer, dict):
            raise UserError(f"{place}: layer {i} is {layer!r}; expected an object with {', '.join(_NEEDED)}")
        for key in _NEEDED:
            if key not in layer:
                raise UserError(f"{place}: layer {layer.get('name', i)!r} has no {key!r}; needed are {', '.join(_NEEDED)}{near_miss(key, layer)}")
        for key in ("input_elements", "output_elements", "macs", "weights"):
            if not isinstance(layer[key], (int, float)) or not 0 <= layer[key] < 1e18:
                raise UserError(f"{place}: layer {layer.get('name', i)!r}: {key} is {layer[key]!r}; expected a count")
    kernels = tuple(_kernels(layers))
    if not any(k.macs for k in kernels):
        raise UserError(f"{place} has no layers that multiply; a network without its layers cannot be fitted")
    return kernels


def _kernels(layers: Sequence[Mapping[str, Any]]) -> Iterator[MeasuredKernel]:
    producers = {blob: layer for layer in layers for blob in layer["outputs"]}
    readers: dict[str, list[Mapping[str, Any]]] = {}
    for layer in layers:
        for blob in layer["inputs"]:
            readers.setdefault(blob, []).append(layer)

    def source(blob: str) -> Mapping[str, Any] | None:
        layer = producers.get(blob)
        while layer is not None and layer["op"] in _ALIASES and layer["inputs"]:
            layer = producers.get(layer["inputs"][0])
        return layer

    def consumers(layer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        for blob in layer["outputs"]:
            for reader in readers.get(blob, ()):
                if reader["op"] in ("Split", "Noop"):
                    yield from consumers(reader)
                else:
                    yield reader

    for layer in layers:
        if layer["class"] == "none":
            continue
        integer, converted = bool(layer.get("int8")), float(layer.get("converted", 0))
        if integer and "converted" not in layer:
            # Between two integer layers nothing is converted.
            before = source(layer["inputs"][0]) if layer["inputs"] else None
            after = list(consumers(layer))
            converted += 0 if before is not None and before.get("int8") else layer["input_elements"]
            converted += 0 if after and all(reader.get("int8") for reader in after) else layer["output_elements"]
        # Anchor boxes follow from the shape of a feature map alone.
        inputs = 0 if layer["op"] == "PriorBox" else layer["input_elements"]
        op_class = _op_class(layer)
        launches = layer.get("groups", 1) if op_class == "grouped" else 1
        yield MeasuredKernel(op_class, layer["macs"], layer["weights"], inputs, layer["output_elements"], integer, converted, launches)


def _op_class(layer: Mapping[str, Any]) -> str:
    name = _OPS.get(layer["op"]) or _CLASSES.get(layer["class"], layer["class"])
    if name in CLASSES:
        return str(name)
    return "gemm" if layer["macs"] else "movement"
