"""Weights of a converted ``.tflite`` file at the width that was promised.

The converter writes float weights, and 8-bit ones where a kernel runs on calibrated activations. They are replaced by integers of 2, 4 or 8 bits with the
scales that they were rounded with, or by 16-bit floats; behind a DEQUANTIZE, which runs once, where the kernel computes in floats.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from compressors.targets.litert_file import WEIGHT
from compressors.targets.litert_flatbuffer import Flatbuffer

__all__ = ["Integers", "StoredWeight", "pack"]

_Array = NDArray[Any]
_OP = schema.BuiltinOperator
_TYPE = schema.TensorType
_INTEGER_TYPES = {2: _TYPE.INT2, 4: _TYPE.INT4, 8: _TYPE.INT8}
_WEIGHTED = (_OP.CONV_2D, _OP.DEPTHWISE_CONV_2D, _OP.FULLY_CONNECTED)
"""Operators that read a weight and a bias behind their activation."""


@dataclass
class Integers:
    """A weight in integers.

    Attributes:
        values: int8, of the weight's shape.
        scales, zero_points: of the tensor, of each channel or of each group.
        bits: that each integer is stored in.
        group: inputs of one scale; 0 where it is one a channel or a tensor.
        dynamic: whether linear layers quantize their activations at run time.
    """

    values: _Array
    scales: _Array
    zero_points: _Array
    bits: int
    group: int = 0
    dynamic: bool = False


@dataclass
class StoredWeight:
    """A weight as the file has to hold it.

    Attributes:
        floats: as torch has them; dequantized where there are integers.
        half: whether they are stored in 16 bits.
        integers: stored instead of them.
    """

    floats: _Array
    half: bool = False
    integers: Integers | None = None

    @property
    def packed(self) -> bool:
        """Whether it is not simply floats."""
        return self.half or self.integers is not None


@dataclass(frozen=True)
class _Place:
    """A weight, and the order in which a tensor holds its dimensions."""

    weight: StoredWeight
    layout: tuple[int, ...]


def pack(content: bytes, weights: Sequence[StoredWeight], inputs: Sequence[str], bound: Sequence[StoredWeight]) -> bytes:
    """Pack, and name inputs as the model does and the output ``logits``.

    Args:
        content: the converted file.
        weights: parameters and quantized weights.
        inputs: names of the model's inputs.
        bound: weights that are inputs behind those; they become constants.

    Raises:
        LookupError: a quantized weight cannot be found.
    """
    file = Flatbuffer(content)
    places = _bind(file, len(inputs), bound)
    # What the converter keeps it keeps in an order of its own; so weights are known by their values.
    index = {digest: place for weight in weights for digest, place in _orders(weight)}
    for number, tensor in enumerate(file.tensors):
        data = file.data(number)
        if number not in places and data is not None and (place := index.get(_digest(_without_ones(tensor.shape), data))):
            places[number] = place
    there = {id(place.weight) for place in places.values()}
    missing = next((weight for weight in weights if weight.packed and id(weight) not in there), None)
    if missing is not None:
        raise LookupError(f"one of shape {list(missing.floats.shape)}")
    read = {int(op.inputs[slot]) for op in file.operators if file.code(op) in _WEIGHTED for slot in (1, 2) if slot < len(op.inputs)}
    for number, place in places.items():
        if place.weight.integers is not None:
            _store_integers(file, number, place, place.weight.integers)
        elif place.weight.half:
            file.set_data(number, place.weight.floats.transpose(place.layout).astype(np.float16))
            _dequantized(file, number, file.move_readers(number, lambda *_: True))
            file.tensors[number].type = _TYPE.FLOAT16
    _widen_biases(file)
    _rename(file, inputs, {number for number in (*places, *read) if number >= 0 and file.data(number) is not None})
    return file.written()


def _bind(file: Flatbuffer, inputs: int, bound: Sequence[StoredWeight]) -> dict[int, _Place]:
    """Weights that were inputs as constants, by their tensors."""
    signature = file.model.signatureDefs[0]
    places: dict[int, _Place] = {}
    for entry in [e for e in signature.inputs if _position(e) >= inputs]:
        number, weight = int(entry.tensorIndex), bound[_position(entry) - inputs]
        file.set_data(number, weight.floats)
        file.graph.inputs = np.array([i for i in file.graph.inputs if i != number], np.int32)
        signature.inputs.remove(entry)
        places[number] = _Place(weight, tuple(range(weight.floats.ndim)))
    return places


def _store_integers(file: Flatbuffer, number: int, place: _Place, integers: Integers) -> None:
    tensor = file.tensors[number]
    file.set_data(number, _packed(integers.values.transpose(place.layout), integers.bits))
    if tensor.type != _TYPE.FLOAT32:
        # A kernel of calibrated activations reads it; its scales stand already.
        tensor.type = _INTEGER_TYPES[integers.bits]
        return
    readers = file.readers(number)
    direct = {(id(op), slot) for op, slot in readers if _reads_integers(file.code(op), slot, integers)}
    if integers.group and len(direct) < len(readers):
        # Groups are held in one way for all readers.
        direct = set()
    floats = file.move_readers(number, lambda op, slot: (id(op), slot) not in direct)
    tensor.type = _INTEGER_TYPES[integers.bits]
    if not integers.group:
        order = [source for source in place.layout if place.weight.floats.shape[source] != 1]
        dimensions = [at for at, size in enumerate(tensor.shape) if size != 1]
        # Channels are the weight's first dimension; where there is only one, any dimension does.
        tensor.quantization = _scales(integers, dimensions[order.index(0)] if 0 in order else 0)
    elif direct:
        tensor.quantization = _blocks(file, integers)
    else:
        # A matrix of groups, each a row with its scale.
        assert floats is not None, "a weight without readers is no weight"
        tensor.shape = np.array([integers.scales.size, integers.group], np.int32)
        tensor.quantization = _scales(integers, 0)
        groups = file.add_tensor(tensor.shape, _TYPE.FLOAT32)
        file.add_reshape(groups, floats)
        floats = groups
    _dequantized(file, number, floats)


def _dequantized(file: Flatbuffer, number: int, floats: int | None) -> None:
    if floats is not None:
        file.add_dequantize(number, floats)


def _reads_integers(code: int, slot: int, integers: Integers) -> bool:
    """Whether an operator beside float activations takes the packed weight as it is; see ``litert_forms``."""
    if integers.zero_points.any() or slot != 1:
        return False
    if code == _OP.EMBEDDING_LOOKUP:
        return not integers.group or integers.bits < 8
    return code == _OP.FULLY_CONNECTED and integers.dynamic and (not integers.group or integers.bits == 4)


def _scales(integers: Integers, dimension: int) -> Any:
    quantization = schema.QuantizationParametersT()
    quantization.scale, quantization.zeroPoint = integers.scales.reshape(-1).astype(np.float32), integers.zero_points.reshape(-1).astype(np.int64)
    quantization.quantizedDimension = dimension
    return quantization


def _blocks(file: Flatbuffer, integers: Integers) -> Any:
    """Scales of groups are a tensor of their own, of float16."""
    details = schema.BlockwiseQuantizationT()
    details.scales = file.add_tensor(integers.scales.shape, _TYPE.FLOAT16, integers.scales.astype(np.float16))
    details.zeroPoints, details.blockSize = -1, integers.group
    quantization = schema.QuantizationParametersT()
    quantization.detailsType, quantization.details = schema.QuantizationDetails.BlockwiseQuantization, details
    return quantization


def _packed(values: _Array, bits: int) -> _Array:
    """Integers of ``bits`` bits in bytes, the first in the lowest ones."""
    if bits == 8:
        return values.astype(np.int8)
    each = 8 // bits
    flat = values.reshape(-1).astype(np.int64) & (2**bits - 1)
    flat = np.concatenate([flat, np.zeros(-len(flat) % each, np.int64)]).reshape(-1, each)
    packed: _Array = (flat << (np.arange(each) * bits)).sum(1).astype(np.uint8)
    return packed


def _orders(weight: StoredWeight) -> Iterator[tuple[tuple[Any, ...], _Place]]:
    """Digests of the weight in every order of its dimensions, the plain one last: it is the one that counts where several are the same."""
    for values in (weight.floats, *([weight.integers.values] if weight.integers is not None else [])):
        for layout in reversed(list(itertools.permutations(range(values.ndim)))):
            moved = np.ascontiguousarray(values.transpose(layout))
            yield _digest(_without_ones(moved.shape), moved), _Place(weight, layout)


def _without_ones(shape: Sequence[int] | None) -> tuple[int, ...]:
    return tuple(int(n) for n in (shape if shape is not None else ()) if n != 1)


def _digest(shape: tuple[int, ...], values: _Array) -> tuple[Any, ...]:
    return (shape, hashlib.sha256(values.tobytes()).digest())


def _position(entry: Any) -> int:
    """Of an input, by the name that the converter gives it: ``args_3``."""
    return int(bytes(entry.name).rpartition(b"_")[2])


def _widen_biases(file: Flatbuffer) -> None:
    """Kernels of 16-bit activations add biases of 64 bits (TensorFlow Lite 8-bit quantization specification); the converter writes 32."""
    for op in file.operators:
        bias = int(op.inputs[2]) if file.code(op) in _WEIGHTED and len(op.inputs) > 2 else -1
        if bias >= 0 and file.tensors[op.inputs[0]].type == _TYPE.INT16 and file.tensors[bias].type == _TYPE.INT32:
            data = file.data(bias)
            assert data is not None, "biases of integer kernels are constants"
            file.set_data(bias, data.view(np.int32).astype(np.int64))
            file.tensors[bias].type = _TYPE.INT64


def _rename(file: Flatbuffer, inputs: Sequence[str], weights: AbstractSet[int]) -> None:
    """Inputs by the model's names, weights as such; the converter calls tensors by the paths of their modules, which take more room than small weights."""
    kept = {*file.graph.inputs, *file.graph.outputs}
    for number, tensor in enumerate(file.tensors):
        if number not in kept:
            tensor.name = WEIGHT if number in weights else b""
    signature = file.model.signatureDefs[0]
    for entry in signature.inputs:
        entry.name = inputs[_position(entry)].encode()
    for entry in signature.outputs:
        entry.name = b"logits"
