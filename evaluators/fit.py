"""``fit``: train a baseline that has no head or no training yet."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.context import Batch
from compressors.errors import UserError
from compressors.torch_threads import torch_threads
from compressors.training import TrainingSpec, train
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.heads import Classification, TokenClassification
from evaluators.tasks.several_tasks import SeveralTasks
from evaluators.tasks.task import Task

__all__ = ["FitSpec", "fit", "require_smoothable"]

FitSpec = TrainingSpec
"""The ``fit:`` section of an experiment."""


def fit(model: nn.Module, task: Task, spec: FitSpec, *, seed: int, device: torch.device | None = None, log: Callable[[str], None] | None = None) -> nn.Module:
    """A trained copy of ``model``, in eval mode.

    The sums of a training depend on the number of threads: it runs on every core that this process may use, whatever the environment or other
    work asks for, so that one machine always makes the same baseline.

    Raises:
        UserError: ``label_smoothing`` of a loss that is no cross-entropy of classes.
        DivergedError, OutOfMemoryError: see ``train``.
    """
    require_smoothable(spec, task)

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        if not spec.label_smoothing:
            return task.loss(logits, batch)
        flat = logits.reshape(-1, logits.shape[-1])
        return functional.cross_entropy(flat, batch.labels.reshape(-1), ignore_index=-100, label_smoothing=spec.label_smoothing)

    with torch_threads(_cores()):
        return train(copy.deepcopy(model), task, spec, loss=loss, seed=seed, device=device, log=log, prefix="fit ")


def require_smoothable(spec: FitSpec, task: Task) -> None:
    """Raise a ``UserError`` for ``label_smoothing`` of a loss that is no cross-entropy of classes."""
    if spec.label_smoothing and not _of_classes(task):
        raise UserError(f"fit.label_smoothing: {spec.label_smoothing:g} of {task.name}, whose loss is no cross-entropy of classes; accepted: 0")


def _of_classes(task: Task) -> bool:
    """Whether the task's loss is what smoothing takes the place of."""
    one = next(iter(task.parts.values())) if isinstance(task, SeveralTasks) else task
    return isinstance(one, ArrayTask) and type(one).loss is ArrayTask.loss and type(one.head).loss in (Classification.loss, TokenClassification.loss)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
