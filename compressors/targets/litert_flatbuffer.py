"""Editing ``.tflite`` files in memory: tensors, operators and constants are added, and the whole is written without repeating what is equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

__all__ = ["Flatbuffer"]

_Array = NDArray[Any]
_OP = schema.BuiltinOperator


class Flatbuffer:
    """A model of one subgraph.

    Args:
        content: of the file.
    """

    def __init__(self, content: bytes) -> None:
        self.model: Any = schema.ModelT.InitFromPackedBuf(bytearray(content), 0)
        self.graph: Any = self.model.subgraphs[0]

    @property
    def tensors(self) -> list[Any]:
        """Of the subgraph."""
        tensors: list[Any] = self.graph.tensors
        return tensors

    @property
    def operators(self) -> list[Any]:
        """Of the subgraph, in execution order."""
        operators: list[Any] = self.graph.operators
        return operators

    def code(self, op: Any) -> int:
        """Which of ``BuiltinOperator`` this is."""
        code = self.model.operatorCodes[op.opcodeIndex]
        return int(max(code.builtinCode, code.deprecatedBuiltinCode))

    def data(self, number: int) -> _Array | None:
        """The bytes of a tensor, or None where it is no constant."""
        data = self.model.buffers[self.tensors[number].buffer].data
        return data if data is not None and len(data) else None

    def set_data(self, number: int, values: _Array) -> None:
        """Make a tensor a constant; others that had the same buffer keep it."""
        buffer = schema.BufferT()
        buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self.model.buffers.append(buffer)
        self.tensors[number].buffer = len(self.model.buffers) - 1

    def add_tensor(self, shape: Sequence[int], kind: int, values: _Array | None = None) -> int:
        """A new tensor of a ``TensorType``; its number."""
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.buffer, tensor.name, tensor.hasRank = np.array(shape, np.int32), kind, 0, b"", True
        self.tensors.append(tensor)
        if values is not None:
            self.set_data(len(self.tensors) - 1, values)
        return len(self.tensors) - 1

    def add_dequantize(self, source: int, target: int) -> None:
        """In front of everything."""
        op = self._add_operator(_OP.DEQUANTIZE, [source], target, 6)
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.DequantizeOptions, schema.DequantizeOptionsT()

    def add_reshape(self, source: int, target: int) -> None:
        """To the target's shape, in front of everything."""
        shape = self.tensors[target].shape
        wanted = self.add_tensor([len(shape)], schema.TensorType.INT32, np.array(shape, np.int32))
        op = self._add_operator(_OP.RESHAPE, [source, wanted], target, 1)
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()

    def move_readers(self, number: int, moved: Callable[[Any, int], bool]) -> int | None:
        """Let readers (operator, position among its inputs) read a new float tensor of the same shape instead; its number, or None where none moves."""
        chosen = [(op, slot) for op, slot in self.readers(number) if moved(op, slot)]
        if not chosen:
            return None
        new = self.add_tensor(self.tensors[number].shape, schema.TensorType.FLOAT32)
        for op, slot in chosen:
            op.inputs = np.array([new if i == slot else name for i, name in enumerate(op.inputs)], np.int32)
        return new

    def readers(self, number: int) -> list[tuple[Any, int]]:
        """Operators that read a tensor, with its position among their inputs."""
        return [(op, slot) for op in self.operators for slot, name in enumerate(op.inputs) if name == number]

    def written(self) -> bytes:
        """The file."""
        used = {0, *(tensor.buffer for tensor in self.tensors), *(entry.buffer for entry in self.model.metadata or [])}
        for number, buffer in enumerate(self.model.buffers):
            # They keep their numbers.
            buffer.data = buffer.data if number in used else None
        builder = _Builder()
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _add_operator(self, code: int, inputs: Sequence[int], output: int, version: int) -> Any:
        codes = self.model.operatorCodes
        known = next((i for i, c in enumerate(codes) if c.builtinCode == code and c.version >= version), None)
        if known is None:
            entry = schema.OperatorCodeT()
            entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, min(code, 127), version
            codes.append(entry)
            known = len(codes) - 1
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = known, np.array(inputs, np.int32), np.array([output], np.int32)
        self.operators.insert(0, op)
        return op


class _Builder(flatbuffers.Builder):  # type: ignore[misc]  # flatbuffers ships no types
    """Equal vectors are written once, and data of tensors starts at multiples of 16 bytes."""

    def __init__(self) -> None:
        super().__init__(1 << 20)
        self._known: dict[tuple[str, bytes], int] = {}
        self._strings: dict[bytes, int] = {}

    def CreateNumpyVector(self, x: _Array) -> int:  # noqa: N802 - flatbuffers' name
        key = (x.dtype.str, x.tobytes())
        if key not in self._known:
            if x.dtype == np.uint8:
                self.Prep(16, x.nbytes)
            self._known[key] = int(super().CreateNumpyVector(x))
        return self._known[key]

    def CreateString(self, s: bytes | str, *arguments: Any) -> int:  # noqa: N802 - flatbuffers' name
        key = s.encode() if isinstance(s, str) else bytes(s)
        if key not in self._strings:
            self._strings[key] = int(super().CreateString(s, *arguments))
        return self._strings[key]
