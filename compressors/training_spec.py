"""How a model is trained: the settings that ``fit``, recovery and distillation share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import pydantic

if TYPE_CHECKING:
    from compressors.context import TrainingData

__all__ = ["EarlyStop", "Precision", "Schedule", "TrainingSpec"]

Schedule = Literal["constant", "linear", "cosine", "exponential", "onecycle"]
Precision = Literal["float32", "bfloat16", "float16"]
_PositiveInt = Annotated[int, pydantic.Field(gt=0)]
_Positive = Annotated[float, pydantic.Field(gt=0)]


class EarlyStop(pydantic.BaseModel):
    """When a training ends early; the weights that were best by then are what it leaves.

    Attributes:
        patience: so many checks in a row without a smaller loss end it.
        every: steps between checks; None checks after each epoch.
        held_out: share of the training examples that are not trained on, and on which the task's loss is checked.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    patience: _PositiveInt
    every: _PositiveInt | None = None
    held_out: Annotated[float, pydantic.Field(gt=0, le=0.5)] = 0.1


class TrainingSpec(pydantic.BaseModel):
    """How to train.

    Attributes:
        epochs, steps: length of the full schedule; give one.
        learning_rate: its peak.
        schedule: of the learning rate over all steps; ``onecycle`` warms up over the first tenth and falls as a cosine to zero [Smith2018].
        optimizer: ``adamw`` or ``sgd`` (momentum 0.9, Nesterov).
        batch_size: None is the task's.
        label_smoothing: of the hard loss of ``fit``.
        clip: largest norm of the gradient; None is no limit.
        accumulate: in how many pieces a batch passes, whose gradients are added up: the memory of one piece, the gradient of the whole batch. Batch norms
            see the pieces.
        precision: of forward and backward pass; weights and optimizer stay ``float32``. ``float16`` scales its gradients and needs a GPU.
        early_stop: see ``EarlyStop``; None trains to the end.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: _PositiveInt | None = None
    steps: _PositiveInt | None = None
    learning_rate: _Positive = 1e-3
    schedule: Schedule = "cosine"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 0.0
    batch_size: _PositiveInt | None = None
    label_smoothing: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    clip: _Positive | None = 1.0
    accumulate: _PositiveInt = 1
    precision: Precision = "float32"
    early_stop: EarlyStop | None = None

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self

    def total_steps(self, data: TrainingData) -> int:
        """Steps of the full schedule, where no example is held out."""
        return self.steps or int(self.epochs or 0) * data.steps("train", batch_size=self.batch_size)
