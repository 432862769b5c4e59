"""A model in a process of its own that has no torch, as a ``Predict``; and one run of ``bench.py``."""

from __future__ import annotations

import io
import json
import os
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
from search.bench import OPENERS
from search.checksums import EXAMPLES, SIGNATURE

__all__ = ["RuntimeProcess", "bench", "bench_command", "run_json"]


def bench_command(model: Path) -> list[str]:
    """What starts ``search/bench.py`` on a model file: the installed one, since an artifact may come from anywhere, and its own copy is not run.

    Files of runtimes that it does not know need this installation; their ``signature.json`` lies beside them.
    """
    if model.suffix in OPENERS:
        return [sys.executable, "-P", str(Path(__file__).with_name("bench.py")), "--model", str(model)]
    signature = model.parent / SIGNATURE
    runtime = json.loads(signature.read_text(encoding="utf-8"))["runtime"] if signature.is_file() else "torch"
    return [sys.executable, "-P", "-m", "search.target_bench", runtime, str(model.parent), "--model", str(model)]


def run_json(command: list[str]) -> Any:
    """What a program of ours prints.

    Raises:
        UnexportableError: it failed; with what it last said.
    """
    # -P keeps the current folder out, but a source tree that is not installed must still be found.
    paths = [str(Path(__file__).parents[1]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - our own programs; no shell
    if ended.returncode:
        raise UnexportableError(ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else f"exit code {ended.returncode}")
    return json.loads(ended.stdout)


def bench(model: Path, *options: str, examples: Path | None = None) -> Any:
    """What ``bench.py`` prints of a model file.

    Args:
        model: the file.
        options: of ``bench.py``.
        examples: inputs with expected outputs; by default those beside the model.

    Raises:
        UnexportableError: the runtime cannot run it.
    """
    return run_json([*bench_command(model), "--examples", str(examples or model.parent / EXAMPLES), *options])


class RuntimeProcess:
    """Use it as a context manager; call it with inputs, ``[examples, ...]`` each, for ``{"logits": ...}``.

    Args:
        model: the file.
        threads: within an operator.
        provider: of ONNX Runtime.
    """

    def __init__(self, model: Path, threads: int = 2, provider: str = "cpu") -> None:
        self._command = [*bench_command(model), "--threads", str(threads), "--provider", provider, "--answer"]

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
