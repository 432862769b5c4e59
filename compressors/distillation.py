"""Distillation from the uncompressed model [Hinton2015]."""

from __future__ import annotations

import copy
from typing import Annotated, ClassVar, Literal, Self

import pydantic
import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Batch, Context, logits_of
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph
from compressors.training import Schedule, TrainingSpec, train

__all__ = ["Distill", "soft_loss", "teach"]

_PositiveInt = Annotated[int, pydantic.Field(gt=0)]
_Positive = Annotated[float, pydantic.Field(gt=0)]


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
    counted = (labels != -100).to(losses.dtype)
    return (losses * counted).sum() / counted.sum().clamp(min=1) * temperature**2


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Distill(Compressor):
    """Train the compressed model on the uncompressed model's outputs: ``alpha * soft + (1 - alpha) * hard``.

    Attributes:
        epochs, steps: length; give one.
        temperature: softens both distributions.
        alpha: weight of the soft loss, in [0, 1]; at 0 the teacher is never run, which is plain fine-tuning.
        learning_rate, schedule, optimizer, weight_decay, batch_size, clip: see ``TrainingSpec``.
    """

    name: ClassVar[str] = "distill"
    stochastic: ClassVar[bool] = True
    resumable: ClassVar[bool] = True

    epochs: _PositiveInt | None = None
    steps: _PositiveInt | None = None
    temperature: _Positive = 4.0
    alpha: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.9
    learning_rate: _Positive = 1e-3
    schedule: Schedule = "cosine"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 0.0
    batch_size: _PositiveInt | None = None
    clip: _Positive | None = 1.0

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - training changes no shape
        """Training changes no shape."""
        return edit

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:  # noqa: ARG002 - the model is already cut
        """A trained copy."""
        student = copy.deepcopy(model)
        sparsity = 1 - sum(p.numel() for p in student.parameters()) / context.graph.parameters
        return teach(student, self, context, prefix=f"sparsity {sparsity:.1%}, ")


def teach(student: nn.Module, step: Distill, context: Context, *, prefix: str) -> nn.Module:
    """Train ``student`` in place as ``step`` says, on the outputs of the context's teacher.

    Args:
        student: takes its inputs by keyword.
        step: length, loss and optimizer.
        context: data, teacher, seed, budget, device and log.
        prefix: put in front of each line of the log.

    Raises:
        CompressionError: there is no data, or no teacher where one is needed.
        DivergedError, OutOfMemoryError: see ``train``.
    """
    if context.data is None:
        raise CompressionError(f"{step.name} needs training data; pass data")
    if step.alpha > 0 and context.teacher is None:
        raise CompressionError(f"{step.name} with alpha above 0 needs a teacher")
    data, teacher = context.data, context.teacher
    if teacher is not None:
        teacher.eval().to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss(logits: Tensor, batch: Batch) -> Tensor:
        total = torch.zeros((), device=logits.device)
        if step.alpha < 1:
            total = total + (1 - step.alpha) * data.loss(logits, batch)
        if step.alpha > 0:
            assert teacher is not None
            with torch.no_grad():
                target = logits_of(teacher(**batch.inputs))
            total = total + step.alpha * soft_loss(logits, target, batch.labels, step.temperature)
        return total

    baseline = data.score(teacher, "search")[1] if teacher is not None else None
    spec = TrainingSpec(
        epochs=step.epochs,
        steps=step.steps,
        learning_rate=step.learning_rate,
        schedule=step.schedule,
        optimizer=step.optimizer,
        weight_decay=step.weight_decay,
        batch_size=step.batch_size,
        clip=step.clip,
    )
    return train(
        student,
        data,
        spec,
        loss=loss,
        seed=context.seed,
        budget=context.budget,
        device=context.device,
        log=context.log,
        prefix=prefix,
        baseline=baseline,
        begun=context.begun,
        keep=context.keep,
    )
