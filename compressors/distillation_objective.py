"""The loss of a distillation: soft and hard, maps in between, and how far the outputs may move."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.context import Batch, ComparingData, Context, TrainingData, logits_of
from compressors.errors import CompressionError
from compressors.intermediate import Intermediate
from compressors.objective import Objective
from compressors.scheduled import value_at
from compressors.stream import indexed
from compressors.teacher_outputs import TeacherOutputs
from compressors.teacher_spec import TeacherSpec

if TYPE_CHECKING:
    from compressors.distillation import Distill

__all__ = ["DistillationObjective", "soft_loss"]

_MULTIPLIER_RATE = 1.0
"""By which the price of a divergence rises at each step, per nat above the limit."""


def soft_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of logits softened by ``temperature``, times its square, averaged over labels that are not -100.

    Args:
        student: logits ``[..., classes]``.
        teacher: logits of the same shape.
        labels: ``[...]``.
        temperature: above 0.
    """
    losses = functional.kl_div(
        functional.log_softmax(student / temperature, dim=-1),
        functional.log_softmax(teacher / temperature, dim=-1),
        reduction="none",
        log_target=True,
    ).sum(-1)
    counted = (labels != -100).to(losses.dtype) if labels.shape == losses.shape else torch.ones_like(losses)
    return (losses * counted).sum() / counted.sum().clamp(min=1) * temperature**2


class DistillationObjective(Objective):
    """What a ``distill`` step trains on.

    Args:
        step: weights, temperature, and what is matched.
        student: the model that is trained.
        data: its loss is the hard one.
        teacher: see ``Distill.teacher``; None where nothing needs one.
        context: the uncompressed model, example inputs and the store of outputs.

    Raises:
        CompressionError: a map that is not there, or outputs of another shape.
    """

    def __init__(self, step: Distill, student: nn.Module, data: TrainingData, teacher: nn.Module | None, context: Context) -> None:
        super().__init__()
        self._step, self._data = step, data
        # Lists, so that these are no submodules: they are not trained.
        self._teacher, self._original = [teacher], [context.teacher]
        inputs = {name: value.to(context.device) for name, value in context.example_inputs.items()}
        self.intermediate: Intermediate | None = None
        if step.features is not None or step.attention is not None:
            assert teacher is not None
            self.intermediate = Intermediate(student, teacher, step.features, step.attention, inputs, context.teacher_inputs)
        self.multiplier: Tensor
        self.register_buffer("multiplier", torch.zeros(()))
        self._outputs = self._tables(teacher, step.teacher, context) if step.soft and self.intermediate is None else None
        original = step.teacher is not None and step.kl_limit is not None
        self._originals = self._tables(context.teacher, None, context) if original else None

    def _tables(self, teacher: nn.Module | None, spec: TeacherSpec | None, context: Context) -> TeacherOutputs | None:
        data = indexed(self._data)
        if teacher is None or data is None or context.outputs is None or self._step.views is None:
            return None
        tables = TeacherOutputs(teacher, spec, data, context.outputs, context.device)
        with torch.no_grad():
            return tables if tables.worthwhile(logits_of(teacher(**context.teacher_inputs))) else None

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        """See ``Objective``."""
        step, total = self._step, torch.zeros((), device=logits.device)
        target = self._target(batch) if step.soft or self.intermediate is not None else None
        if self.intermediate is not None:
            total = total + self.intermediate(batch)
        if step.logits:
            alpha = value_at(step.alpha, self.progress)
            if alpha < 1:
                total = total + (1 - alpha) * self._data.loss(logits, batch)
            if alpha > 0:
                assert target is not None
                total = total + alpha * self._distance(logits, target, batch, value_at(step.temperature, self.progress))
        if step.kl_limit is not None:
            original = target if step.teacher is None else self._said(self._original[0], self._originals, batch)
            assert original is not None
            excess = self._distance(logits, original, batch, 1.0) - step.kl_limit
            # Dual ascent: what a divergence costs rises for as long as it is above the limit, and falls below it.
            self.multiplier = (self.multiplier + _MULTIPLIER_RATE * excess.detach()).clamp(min=0)
            total = total + self.multiplier * excess
        return total

    def _distance(self, logits: Tensor, target: Tensor, batch: Batch, temperature: float) -> Tensor:
        if isinstance(self._data, ComparingData):
            return self._data.soft_loss(logits, target, batch, temperature)
        return soft_loss(logits, target, batch.labels, temperature)

    def _target(self, batch: Batch) -> Tensor:
        return self._said(self._teacher[0], self._outputs, batch)

    def _said(self, teacher: nn.Module | None, tables: TeacherOutputs | None, batch: Batch) -> Tensor:
        if tables is not None and batch.rows is not None:
            return tables.of(batch)
        assert teacher is not None
        with torch.no_grad():
            return logits_of(teacher(**batch.teacher_inputs))

    def close(self) -> None:
        """See ``Objective``."""
        if self.intermediate is not None:
            self.intermediate.close()


def require_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Check outputs of one input.

    Raises:
        CompressionError: they differ in shape; names both.
    """
    if student.shape != teacher.shape:
        raise CompressionError(f"teacher: its outputs are {list(teacher.shape)}, the student's {list(student.shape)}; accepted: a teacher of the same task")
