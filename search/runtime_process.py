"""A model in a process of its own that has no torch, as a ``Predict``."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UnexportableError

__all__ = ["RuntimeProcess"]


class RuntimeProcess:
    """Use it as a context manager; call it with inputs, ``[examples, ...]`` each, for ``{"logits": ...}``.

    Args:
        model: an ONNX file.
        threads: within an operator.
    """

    def __init__(self, model: Path, threads: int = 2) -> None:
        self._command = [sys.executable, "-P", str(Path(__file__).with_name("bench.py")), "--model", str(model), "--threads", str(threads), "--answer"]

    def __enter__(self) -> Self:
        # A file, not a pipe: nobody reads it before the end, and a full pipe would block the process.
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors)  # noqa: S603 - our own script
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            try:
                stream.close()
            except BrokenPipeError:
                continue

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once.

        Raises:
            UnexportableError: the runtime cannot run the model; the process ended; with what it last said.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        buffer = io.BytesIO()
        np.savez(buffer, **dict(inputs))  # type: ignore[arg-type]  # numpy types allow_pickle among the arrays
        try:
            self._process.stdin.write(struct.pack("<q", buffer.tell()) + buffer.getvalue())
            self._process.stdin.flush()
            header = self._process.stdout.read(8)
        except BrokenPipeError:
            header = b""
        if len(header) < 8:
            self._process.wait()
            self._errors.seek(0)
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            raise UnexportableError(lines[-1] if lines else f"exit code {self._process.returncode}")
        with np.load(io.BytesIO(self._process.stdout.read(struct.unpack("<q", header)[0])), allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
