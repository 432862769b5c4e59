"""Distillation from the uncompressed model or any other teacher [Hinton2015]_.

.. [Hinton2015] Hinton et al., Distilling the Knowledge in a Neural Network, NeurIPS deep learning workshop 2014, arXiv:1503.02531.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit
from compressors.context import Context, logits_of
from compressors.distillation_objective import DistillationObjective, require_same_shape, soft_loss
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph
from compressors.intermediate import Attention, Features, Intermediate, layer_names, layer_problems
from compressors.objective import Objective
from compressors.scheduled import Scheduled, as_share, as_temperature
from compressors.teacher_spec import TeacherSpec
from compressors.training import Schedule, TrainingSpec, train
from compressors.training_spec import EarlyStop, Precision

__all__ = ["Distill", "require_fit", "soft_loss", "teach"]

_PositiveInt = Annotated[int, pydantic.Field(gt=0)]
_Positive = Annotated[float, pydantic.Field(gt=0)]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class Distill(Compressor):
    """Train the compressed model on a teacher's outputs: ``alpha * soft + (1 - alpha) * hard``, and on maps inside it.

    Features first and outputs then, as in FitNets, are two steps, of which the first has ``logits: false``.

    Attributes:
        epochs, steps: length; give one.
        temperature: softens both distributions; a number, or ``{start, end, schedule}`` over the training, ``schedule`` being ``linear`` or ``cosine``.
        alpha: weight of the soft loss, in [0, 1], a number or scheduled; at 0 the teacher is never run, which is plain fine-tuning.
        teacher: another one than the uncompressed model, see ``TeacherSpec``.
        features, attention: maps that are matched beside the outputs, see ``compressors.intermediate``.
        logits: whether outputs count at all; without them only features and attention do.
        kl_limit: how far the outputs may move from the uncompressed model's, in nats of KL divergence: a penalty whose weight rises for as long as batches
            are above it. None is no limit.
        views: how many variants of augmented training data there are, the same for all trainings, so that the teacher's outputs can be kept; epoch e has
            variant e mod views. None augments anew in each epoch, and runs the teacher each time.
        learning_rate, schedule, optimizer, weight_decay, batch_size, clip, accumulate, precision, early_stop: see ``TrainingSpec``.
    """

    name: ClassVar[str] = "distill"
    version: ClassVar[int] = 2
    stochastic: ClassVar[bool] = True
    resumable: ClassVar[bool] = True

    epochs: _PositiveInt | None = None
    steps: _PositiveInt | None = None
    temperature: Annotated[Scheduled, pydantic.AfterValidator(as_temperature)] = 4.0
    alpha: Annotated[Scheduled, pydantic.AfterValidator(as_share)] = 0.9
    teacher: TeacherSpec | None = None
    features: Features | None = None
    attention: Attention | None = None
    logits: bool = True
    kl_limit: _Positive | None = None
    views: _PositiveInt | None = 8
    learning_rate: _Positive = 1e-3
    schedule: Schedule = "cosine"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 0.0
    batch_size: _PositiveInt | None = None
    clip: _Positive | None = 1.0
    accumulate: _PositiveInt = 1
    precision: Precision = "float32"
    early_stop: EarlyStop | None = None

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        if not self.logits and self.features is None and self.attention is None:
            raise ValueError("logits: false leaves nothing to train on; accepted: with features or attention")
        if self.teacher is not None and not (self.soft or self.features or self.attention):
            raise ValueError("the teacher is never asked with alpha 0; accepted: alpha above 0, features or attention")
        return self

    @property
    def soft(self) -> bool:
        """Whether the loss has the teacher's outputs in it."""
        return (self.logits and self.alpha != 0) or (self.kl_limit is not None and self.teacher is None)

    @property
    def training(self) -> TrainingSpec:
        """Length and optimizer."""
        return TrainingSpec(**{name: getattr(self, name) for name in TrainingSpec.model_fields if hasattr(self, name)})

    def teachers(self) -> tuple[TeacherSpec, ...]:
        """See ``Compressor.teachers``."""
        return () if self.teacher is None else (self.teacher,)

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """See ``Compressor.problems``."""
        # Not super(), which the class that slots make does not know.
        yield from Compressor.problems(self, graph)
        for key, spec in (("features.layers", self.features), ("attention.layers", self.attention)):
            # The names of another teacher's modules are compared with it where it is loaded.
            layers = None if spec is None or (self.teacher is not None and not isinstance(spec.layers, dict)) else spec.layers
            yield from ((key, message) for message in layer_problems(layer_names(graph), layers))

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:  # noqa: ARG002 - the model is already cut
        """A trained copy."""
        student = copy.deepcopy(model)
        sparsity = 1 - sum(p.numel() for p in student.parameters()) / context.graph.parameters
        return teach(student, self, context, prefix=f"sparsity {sparsity:.1%}, ")

    def objective(self, student: nn.Module, teacher: nn.Module | None, context: Context) -> Objective:
        """What the student is trained on; subclasses may add to it."""
        assert context.data is not None
        return DistillationObjective(self, student, context.data, teacher, context)


def teach(student: nn.Module, step: Distill, context: Context, *, prefix: str) -> nn.Module:
    """Train ``student`` in place as ``step`` says, on the outputs of its teacher.

    Args:
        student: takes its inputs by keyword.
        step: length, loss and optimizer.
        context: data, teacher, seed, budget, device and log.
        prefix: put in front of each line of the log.

    Raises:
        CompressionError: there is no data, no teacher where one is needed, or one whose outputs or maps do not fit the student's.
        DivergedError, OutOfMemoryError: see ``train``.
    """
    if context.data is None:
        raise CompressionError(f"{step.name} needs training data; pass data")
    teacher = _teacher_of(step, student, context)
    teachers = [model.eval().to(context.device) for model in (teacher, context.teacher) if model is not None]
    student.to(context.device)
    baseline = None
    if context.teacher is not None:
        baseline = context.baseline_score()
    with torch.random.fork_rng():
        torch.manual_seed(context.seed)
        objective = step.objective(student, teacher, context)
    try:
        for model in teachers:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return train(
            student,
            context.data,
            step.training,
            loss=objective,
            seed=context.seed,
            budget=context.budget,
            device=context.device,
            log=context.log,
            prefix=prefix,
            baseline=baseline,
            begun=context.begun,
            keep=context.keep,
            views=step.views,
            first_view=context.first_view,
        )
    finally:
        objective.close()
        for model in teachers:
            # Others use it too, and safetensors reads no tied weights into that layout.
            model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def require_fit(step: Distill, student: nn.Module, teacher: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Check that a teacher has the outputs and the maps that a step compares, of the uncompressed student.

    Args:
        step: what it compares.
        student: uncompressed, in eval mode.
        teacher: in eval mode.
        inputs: of one forward pass.

    Raises:
        CompressionError: names both shapes, or what is not there.
    """
    if teacher is not student:
        with torch.no_grad():
            try:
                said = logits_of(teacher(**inputs))
            except (RuntimeError, ValueError, TypeError, IndexError) as error:
                raise CompressionError(f"teacher: does not take the student's inputs: {error}") from error
            require_same_shape(logits_of(student(**inputs)), said)
    if step.features is not None or step.attention is not None:
        Intermediate(copy.deepcopy(student), teacher, step.features, step.attention, inputs).close()


def _teacher_of(step: Distill, student: nn.Module, context: Context) -> nn.Module | None:
    if step.kl_limit is not None and context.teacher is None:
        raise CompressionError(f"{step.name} with kl_limit needs the uncompressed model as teacher")
    if step.teacher is None:
        if context.teacher is None and (step.soft or step.features or step.attention):
            raise CompressionError(f"{step.name} with {'alpha above 0' if step.soft else 'features or attention'} needs a teacher")
        return context.teacher
    if context.teachers is None:
        raise CompressionError(f"{step.name}: a teacher of its own needs an experiment; without one the uncompressed model is the teacher")
    teacher = context.teachers(step.teacher)
    inputs = {name: value.to(context.device) for name, value in context.example_inputs.items()}
    with torch.no_grad():
        require_same_shape(logits_of(student.to(context.device).eval()(**inputs)), logits_of(teacher.to(context.device)(**context.teacher_inputs)))
    return teacher
