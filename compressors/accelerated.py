"""Mixed precision and batches in pieces, through ``accelerate``; a training that asks for neither does without it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compressors.context import Batch, logits_of
from compressors.errors import CompressionError, UserError
from compressors.stream import pieces
from compressors.training_spec import TrainingSpec

__all__ = ["Accelerated", "accelerated", "counted"]

_NAMES = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class Accelerated:
    """Gradients of one batch after the other.

    Args:
        accelerator: of accelerate.
        optimizer: as it has prepared it.
        pieces: of each batch.
    """

    def __init__(self, accelerator: Any, optimizer: Any, pieces: int) -> None:
        self._accelerator, self._optimizer, self._pieces = accelerator, optimizer, pieces

    def gradients(self, model: nn.Module, batch: Batch, loss: Callable[[Tensor, Batch], Tensor]) -> Tensor:
        """The mean loss of a batch, whose gradients are added to the parameters'. One that is not finite ends it."""
        total = torch.zeros((), device=batch.labels.device)
        for piece, share in parts(batch, self._pieces):
            with self._accelerator.autocast():
                logits = logits_of(model(**piece.inputs))
            # Losses are sums of many logarithms: in full precision.
            value = loss(logits.float(), piece) * share
            total = total + value.detach()
            if not torch.isfinite(total):
                break
            self._accelerator.backward(value)
        return total

    def clip(self, parameters: list[nn.Parameter], norm: float) -> None:
        """Bound the norm of the gradient."""
        self._accelerator.clip_grad_norm_(parameters, norm)

    def step(self) -> None:
        """Change the parameters; ``float16`` leaves out a step whose gradients overflow, and scales the next ones less."""
        self._optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """What going on takes."""
        scaler = self._accelerator.scaler
        return {} if scaler is None else {f"scaler.{name}": torch.tensor(float(value)) for name, value in scaler.state_dict().items()}

    def go_on(self, begun: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` gave."""
        scaler = self._accelerator.scaler
        if scaler is not None:
            known = scaler.state_dict()
            scaler.load_state_dict({name: type(value)(begun[f"scaler.{name}"].item()) for name, value in known.items()})


@contextlib.contextmanager
def accelerated(spec: TrainingSpec, optimizer: torch.optim.Optimizer, device: torch.device) -> Iterator[Accelerated | None]:
    """What a training runs its batches with; None where plain torch will do.

    Raises:
        UserError: accelerate is not installed.
        CompressionError: ``float16`` without a GPU.
    """
    if spec.precision == "float32" and spec.accumulate == 1:
        yield None
        return
    if spec.precision == "float16" and device.type == "cpu":
        raise CompressionError("precision float16 needs a GPU; accepted here: float32, bfloat16")
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise UserError("precision and accumulate need the package accelerate; install compareto[accelerate]") from error
    # One precision a process is what accelerate was made for; here, each training has its own. Nothing public starts it afresh.
    AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001
    try:
        accelerator = Accelerator(mixed_precision=_NAMES[spec.precision], cpu=device.type == "cpu")
        yield Accelerated(accelerator, accelerator.prepare(optimizer), spec.accumulate)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)  # noqa: SLF001


def parts(batch: Batch, count: int) -> Iterator[tuple[Batch, float]]:
    """A batch in pieces, each with its share in a mean over the batch; those that have none, without a label that counts, are left out.

    Losses of labels and of a teacher's outputs are then those of the batch; that of maps is a ratio, of each piece its own.
    """
    examples, total = len(batch.labels), counted(batch.labels)
    for piece in pieces(examples, -(-examples // count)):
        labels = batch.labels[piece]
        share = counted(labels) / total if total else len(labels) / examples
        if not share:
            continue
        rows = None if batch.rows is None else batch.rows[piece]
        inputs = {name: value[piece] for name, value in batch.inputs.items()}
        native = None if batch.native is None else {name: value[piece] for name, value in batch.native.items()}
        yield Batch(inputs, labels, rows, batch.view, native), share


def counted(labels: Tensor) -> int:
    """Over how many a loss is a mean: of classes (of examples, or of tokens) those that are not -100, of anything else examples."""
    return int((labels != -100).sum()) if labels.dtype == torch.int64 else len(labels)
