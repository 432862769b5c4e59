"""Weights of an exported ONNX model at the width that was promised.

The exporter writes 8-bit integers at most. Here 4-bit weights are packed in pairs and float16 weights halved, each behind a ``Cast`` that ONNX
Runtime folds when it loads the model; weights whose activations stay float become ``Cast`` and ``Mul``, which it folds too, so that they run as
fast as float weights while they are stored as integers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from compressors.targets.onnx_groups import expand_dense

__all__ = ["pack", "weight_bytes"]


_CONSTANTS = "compareto.constants"
_WEIGHTED = ("Conv", "Gemm", "MatMul", "Gather", "BatchNormalization")


def pack(model: onnx.ModelProto, weights: Mapping[str, NDArray[Any]], halves: AbstractSet[str], buffers: AbstractSet[str]) -> onnx.ModelProto:
    """Pack in place.

    Args:
        model: exported with 8-bit integers and float weights.
        weights: every parameter and buffer by name; the exporter renames them, and transposes some.
        halves: names of those to store in 16 bits.
        buffers: names of those that the model itself has not trained, such as the frequencies of rotary embeddings.
    """
    graph = model.graph
    expand_dense(graph)
    trained = [weight for name, weight in weights.items() if name not in buffers]
    _name_constants(model, {_digest(form) for weight in trained for form in (weight, weight.T)})
    _narrow(graph, {_digest(table.astype(np.int64)) for table in weights.values() if table.dtype == np.int32})
    _merge_equal(graph)
    _drop_zeros(graph)
    arrays = {i.name: i for i in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    added: list[onnx.NodeProto] = []
    integers: dict[str, NDArray[Any]] = {}
    for node in [n for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in arrays]:
        # Layers that share a weight read it by scales of their own.
        stored = node.input[0]
        seen = stored in integers
        values = integers.setdefault(stored, numpy_helper.to_array(arrays[stored]))
        if values.dtype != np.int8 or values.ndim < 2:
            continue
        four = _fits_four(values)
        if four and not seen:
            _replace(graph, helper.make_tensor(stored, TensorProto.INT4, values.shape, _nibbles(values), raw=True))
        if _feeds_integers(node, consumers, producers):
            if four:
                if not any(n.output[0] == f"{stored}.int8" for n in added):
                    added.append(helper.make_node("Cast", [stored], [f"{stored}.int8"], to=TensorProto.INT8))
                node.input[0] = f"{stored}.int8"
            continue
        scale = numpy_helper.to_array(arrays[node.input[1]])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        shape = [1] * values.ndim
        shape[axis] = -1
        _replace(graph, numpy_helper.from_array(scale.reshape(shape) if scale.ndim else scale, node.input[1]))
        if not any(n.output[0] == f"{stored}.float" for n in added):
            added.append(helper.make_node("Cast", [stored], [f"{stored}.float"], to=TensorProto.FLOAT))
        centred = f"{stored}.float"
        if len(node.input) > 2:
            zeros, centred = f"{node.output[0]}.zeros", f"{node.output[0]}.centred"
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(arrays[node.input[2]]).astype(np.int8).reshape(shape), zeros))
            added += [helper.make_node("Cast", [zeros], [f"{zeros}.float"], to=TensorProto.FLOAT)]
            added += [helper.make_node("Sub", [f"{stored}.float", f"{zeros}.float"], [centred])]
        added.append(helper.make_node("Mul", [centred, node.input[1]], [node.output[0]]))
        graph.node.remove(node)
    for stored, readers in _dynamic_weights(graph, arrays).items():
        values = numpy_helper.to_array(arrays[stored])
        if not _fits_four(values):
            continue
        _replace(graph, helper.make_tensor(stored, TensorProto.INT4, values.shape, _nibbles(values), raw=True))
        added.append(helper.make_node("Cast", [stored], [f"{stored}.int8"], to=TensorProto.INT8))
        for node in readers:
            node.input[1] = f"{stored}.int8"
    wanted = {_digest(form) for name in halves for form in (weights[name], weights[name].T)}
    for name in [i.name for i in graph.initializer if i.data_type == TensorProto.FLOAT and len(i.dims) > 1]:
        values = numpy_helper.to_array(arrays[name])
        if _digest(values) not in wanted:
            continue
        _replace(graph, numpy_helper.from_array(values.astype(np.float16), f"{name}.half"), old=name)
        added.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    for node in reversed(added):
        graph.node.insert(0, node)
    _drop_unused(graph)
    return model


def weight_bytes(model: onnx.ModelProto) -> int:
    """Bytes of weights, scales and biases in a model: every initializer but single numbers, shapes and the constants that ``pack`` has named."""
    constants = {name for entry in model.metadata_props if entry.key == _CONSTANTS for name in entry.value.split("\n")}
    total = 0
    for tensor in model.graph.initializer:
        elements = int(np.prod(tensor.dims)) if tensor.dims else 1
        if elements == 1 or tensor.name in constants or tensor.data_type in (TensorProto.INT64, TensorProto.BOOL):
            continue
        bits = 4 if tensor.data_type == TensorProto.INT4 else 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        total += -(-elements * bits // 8)
    return total


def _name_constants(model: onnx.ModelProto, known: AbstractSet[bytes]) -> None:
    """Note what the exporter has computed from no weight, such as the angles of rotary embeddings: neither a parameter nor read by a weighted operator."""
    weighted = {name for node in model.graph.node if node.op_type in _WEIGHTED for name in node.input}
    floats = [i for i in model.graph.initializer if i.data_type == TensorProto.FLOAT and i.name not in weighted]
    constants = [i.name for i in floats if _digest(numpy_helper.to_array(i)) not in known]
    if constants:
        model.metadata_props.add(key=_CONSTANTS, value="\n".join(constants))


def _narrow(graph: onnx.GraphProto, tables: AbstractSet[bytes]) -> None:
    """Tables of 32-bit integers that the exporter has widened, since torch indexes by 64 bits: ``Gather`` takes either."""
    indices = {node.input[1] for node in graph.node if node.op_type == "Gather"}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.INT64 and tensor.name in indices and _digest(numpy_helper.to_array(tensor)) in tables:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.int32), tensor.name))


def _drop_zeros(graph: onnx.GraphProto) -> None:
    """Zero points that are all zero are what a reader assumes where there are none; the exporter casts those of many rows when the model runs."""
    arrays = {i.name: i for i in graph.initializer}
    casts = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Cast"}
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or len(node.input) < 3:
            continue
        known = arrays.get(casts.get(node.input[2], node.input[2]))
        if known is None:
            continue
        values = numpy_helper.to_array(known)
        if not values.any():
            del node.input[2]
        elif node.input[2] not in arrays:
            stored = numpy_helper.from_array(values.astype(np.int8), f"{node.input[2]}.stored")
            if stored.name not in arrays:
                arrays[stored.name] = stored
                graph.initializer.append(stored)
            node.input[2] = stored.name
    read = {name for node in graph.node for name in node.input}
    for node in [n for n in graph.node if n.op_type == "Cast" and n.output[0] not in read and n.output[0] not in {o.name for o in graph.output}]:
        graph.node.remove(node)


def _fits_four(values: NDArray[Any]) -> bool:
    return int(values.min(initial=0)) >= -8 and int(values.max(initial=0)) <= 7


def _digest(values: NDArray[Any]) -> bytes:
    return hashlib.sha256(values.tobytes()).digest()


def _nibbles(values: np.ndarray) -> bytes:
    flat = values.reshape(-1).astype(np.uint8) & 0xF
    if len(flat) % 2:
        flat = np.append(flat, np.uint8(0))
    return bytes(flat[0::2] | (flat[1::2] << 4))


def _replace(graph: onnx.GraphProto, tensor: onnx.TensorProto, old: str | None = None) -> None:
    for existing in graph.initializer:
        if existing.name == (old or tensor.name):
            existing.CopyFrom(tensor)
            return


def _merge_equal(graph: onnx.GraphProto) -> None:
    """One copy of weights that layers share: the exporter transposes each of their uses into a tensor of its own."""
    first: dict[tuple[Any, ...], str] = {}
    instead: dict[str, str] = {}
    for tensor in graph.initializer:
        if len(tensor.dims) > 1 and tensor.data_type == TensorProto.FLOAT:
            kept = first.setdefault((*tensor.dims, _digest(numpy_helper.to_array(tensor))), tensor.name)
            instead |= {tensor.name: kept} if kept != tensor.name else {}
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = instead.get(name, name)
    _drop_unused(graph)


def _feeds_integers(node: onnx.NodeProto, consumers: dict[str, list[onnx.NodeProto]], producers: dict[str, onnx.NodeProto]) -> bool:
    """Whether the operator that reads this dequantized weight reads a dequantized activation too (a transpose in between allowed)."""
    readers = consumers.get(node.output[0], [])
    for reader in readers:
        if reader.op_type == "Transpose":
            return _feeds_integers(reader, consumers, producers)
        first = producers.get(reader.input[0])
        if reader.op_type not in ("Conv", "Gemm", "MatMul") or first is None or first.op_type != "DequantizeLinear":
            return False
    return bool(readers)


def _dynamic_weights(graph: onnx.GraphProto, arrays: dict[str, onnx.TensorProto]) -> dict[str, list[onnx.NodeProto]]:
    """Readers of each weight that is multiplied as integers by activations quantized at run time; more than one where layers share it."""
    found: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type == "MatMulInteger" and node.input[1] in arrays:
            found.setdefault(node.input[1], []).append(node)
    return found


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {o.name for o in graph.output}
    for tensor in [i for i in graph.initializer if i.name not in used]:
        graph.initializer.remove(tensor)
