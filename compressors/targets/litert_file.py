"""What a ``.tflite`` file holds: bytes of its weights, and the operators that run. Needs ai-edge-litert and NumPy only."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

__all__ = ["WEIGHT", "executed_operators", "weight_bytes"]

_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
_TYPES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
WEIGHT = b"w"
"""Name of the tensors that hold weights and biases, in the files that we write."""


def executed_operators(path: Path) -> Counter[str]:
    """How many of each operator the file has, by name and by what it computes in: ``CONV_2D int8``, ``FULLY_CONNECTED float32``.

    Operators that read packed weights beside float activations are named by both: ``FULLY_CONNECTED float32 x int4``. What only unpacks weights when the file
    is loaded is left out: it does not run.
    """
    model, graph = _read(path)
    once = _constants(graph, model)
    counts: Counter[str] = Counter()
    for op in graph.operators:
        if all(number in once for number in op.outputs):
            continue
        name = _name(model, op)
        types = [_TYPES[graph.tensors[number].type] for number in op.inputs if number >= 0]
        activation = types[1] if name in ("EMBEDDING_LOOKUP", "SELECT_V2", "GATHER") and len(types) > 1 else types[0] if types else ""
        beside = f" x {types[1]}" if name in ("FULLY_CONNECTED", "CONV_2D", "DEPTHWISE_CONV_2D") and types[1] != activation else ""
        counts[f"{name} {activation}{beside}"] += 1
    return counts


def weight_bytes(path: Path) -> int:
    """Bytes of weights, biases and their scales, and of the zero points that are not zero.

    Weights are the tensors that our exporter has named so: constants that say shapes and axes, or that the model computes from no weight, are none.
    """
    model, graph = _read(path)
    total = 0
    seen: set[tuple[str, bytes]] = set()
    for tensor in graph.tensors:
        if bytes(tensor.name or b"") != WEIGHT:
            continue
        pieces = [model.buffers[tensor.buffer].data]
        quantization = tensor.quantization
        if quantization is not None and quantization.scale is not None:
            pieces.append(quantization.scale)
            pieces += [quantization.zeroPoint] if quantization.zeroPoint.any() else []
        if quantization is not None and quantization.details is not None:
            pieces.append(model.buffers[graph.tensors[quantization.details.scales].buffer].data)
        for piece in pieces:
            # Equal vectors are one in the file.
            key = (piece.dtype.str, piece.tobytes())
            total += piece.nbytes if key not in seen else 0
            seen.add(key)
    return total


def _constants(graph: Any, model: Any) -> set[int]:
    """Tensors that are known when the file is loaded."""
    known = {i for i, t in enumerate(graph.tensors) if (d := model.buffers[t.buffer].data) is not None and len(d)}
    for op in graph.operators:
        if _name(model, op) in ("DEQUANTIZE", "RESHAPE") and all(number in known for number in op.inputs):
            known |= set(op.outputs)
    return known


def _name(model: Any, op: Any) -> str:
    code = model.operatorCodes[op.opcodeIndex]
    return str(_OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)])


def _read(path: Path) -> tuple[Any, Any]:
    model = schema.ModelT.InitFromPackedBuf(bytearray(path.read_bytes()), 0)
    return model, model.subgraphs[0]
