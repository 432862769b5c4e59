"""A loaded ``.tflite`` file. Needs ai-edge-litert and NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

__all__ = ["LiteRTSession"]

_Array = NDArray[Any]


class LiteRTSession:
    """Runs a model file on the CPU, through XNNPACK where it has the kernels.

    A file has one batch size. Other numbers of examples are run in turns of it; the last turn is filled with copies of its last example. Callers give and get
    floats (and int64 where the model takes integers), also where the file's inputs and outputs are quantized.

    Args:
        path: the model file.
        threads: 0 is LiteRT's choice.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._interpreter = Interpreter(model_path=str(path), num_threads=threads or None)
        self._interpreter.allocate_tensors()
        runner = self._interpreter.get_signature_runner()
        self._inputs = runner.get_input_details()
        self._outputs = runner.get_output_details()
        self.inputs = {name: str(np.dtype(detail["dtype"])) for name, detail in self._inputs.items()}
        self.batch = int(next(iter(self._inputs.values()))["shape"][0])

    def __call__(self, inputs: Mapping[str, _Array]) -> dict[str, _Array]:
        """Run on ``[examples, ...]``; inputs that the model does not read are left out."""
        count = len(next(iter(inputs.values())))
        turns = [self._turn({name: inputs[name][start : start + self.batch] for name in self._inputs}) for start in range(0, count, self.batch)]
        return {name: np.concatenate([turn[name] for turn in turns])[:count] for name in self._outputs}

    def _turn(self, inputs: Mapping[str, _Array]) -> dict[str, _Array]:
        for name, detail in self._inputs.items():
            values = inputs[name]
            if len(values) < self.batch:
                values = np.concatenate([values, np.repeat(values[-1:], self.batch - len(values), axis=0)])
            self._interpreter.set_tensor(detail["index"], _quantized(values, detail))
        self._interpreter.invoke()
        return {name: _floats(self._interpreter.get_tensor(detail["index"]), detail) for name, detail in self._outputs.items()}


def _quantized(values: _Array, detail: Mapping[str, Any]) -> _Array:
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    if not scale:
        return np.ascontiguousarray(values, dtype=dtype)
    limits = np.iinfo(dtype)
    integers: _Array = np.clip(np.rint(values / np.float32(scale)) + zero_point, limits.min, limits.max).astype(dtype)
    return integers


def _floats(values: _Array, detail: Mapping[str, Any]) -> _Array:
    scale, zero_point = detail["quantization"]
    return (values.astype(np.float32) - np.float32(zero_point)) * np.float32(scale) if scale else values
