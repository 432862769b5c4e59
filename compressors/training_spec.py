"""How a model is trained: the settings that ``fit``, recovery and distillation share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

import pydantic

if TYPE_CHECKING:
    from compressors.context import TrainingData

__all__ = ["Schedule", "TrainingSpec"]

Schedule = Literal["constant", "linear", "cosine", "exponential", "onecycle"]
_PositiveInt = Annotated[int, pydantic.Field(gt=0)]
_Positive = Annotated[float, pydantic.Field(gt=0)]


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

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self

    def total_steps(self, data: TrainingData) -> int:
        """Steps of the full schedule."""
        return self.steps or int(self.epochs or 0) * data.steps("train", batch_size=self.batch_size)
