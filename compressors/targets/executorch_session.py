"""A loaded ``.pte`` program. Needs ExecuTorch's Python runtime, which takes and gives torch tensors: torch is loaded, but callers pass and get NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from compressors.targets.executorch_quiet import quiet, silenced_files

__all__ = ["ANY_BATCH", "INPUTS", "MISSING", "ExecuTorchSession"]

INPUTS = "input_names"
"""A method of our programs that returns the names of the inputs: a ``.pte`` knows positions only."""
ANY_BATCH = "any_batch"
"""One that returns whether batches may be smaller than the bound."""
MISSING = 'ExecuTorch is not installed: pip install "compareto[executorch]"'


class ExecuTorchSession:
    """Runs a program on the CPU.

    A program takes batches up to a bound; larger ones are run in parts.

    Args:
        path: the file.
        threads: of the whole process; 0 is ExecuTorch's choice.

    Raises:
        UserError: ExecuTorch is not installed, or does not load the file.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        try:
            with quiet():
                import executorch.kernels.quantized  # noqa: F401 - registers the kernels that read integer tables
                from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
                from executorch.runtime import Runtime
        except ImportError as error:
            raise UserError(MISSING) from error
        lines: list[str] = []
        try:
            # Says on the standard error what it has found out about the processor.
            with silenced_files() as lines:
                if threads:
                    _unsafe_reset_threadpool(threads)
                self._program = Runtime.get().load_program(path)
                names, self.any_batch = (self._program.load_method(name).execute([])[0] for name in (INPUTS, ANY_BATCH))
                self._method = self._program.load_method("forward")
        except (RuntimeError, KeyError) as error:
            raise UserError(f"{path}: ExecuTorch does not load it: {(lines or [str(error)])[-1]}") from error
        metadata = self._method.metadata
        taken = [metadata.input_tensor_meta(i) for i in range(metadata.num_inputs())]
        self.inputs = tuple(names.split("\n"))
        self._dtypes = [_dtype(meta.dtype()) for meta in taken]
        self.batch = min((int(meta.sizes()[0]) for meta in taken), default=1)

    def __call__(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run once; inputs that the model does not read are left out."""
        import torch

        given = [torch.from_numpy(np.ascontiguousarray(inputs[name])).to(dtype) for name, dtype in zip(self.inputs, self._dtypes, strict=True)]
        count = len(given[0])
        if not self.any_batch:
            # Filled up with repetitions.
            given = [tensor[torch.arange(-(-count // self.batch) * self.batch) % count] for tensor in given]
        parts = [self._method.execute([tensor[i : i + self.batch] for tensor in given])[0].numpy() for i in range(0, len(given[0]), self.batch)]
        return {"logits": parts[0] if len(parts) == 1 and self.any_batch else np.concatenate(parts)[:count]}


def _dtype(number: int) -> Any:
    """PyTorch's ``ScalarType``, by which ExecuTorch numbers types, too."""
    import torch

    kinds = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64]
    return {**dict(enumerate(kinds)), 11: torch.bool}[int(number)]
