"""Numbers that change while a model is trained: constant, or from a start to an end along a line or half a cosine."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pydantic

__all__ = ["Ramp", "Scheduled", "as_share", "as_temperature", "as_weight", "value_at"]


class Ramp(pydantic.BaseModel):
    """From one number to another over the whole training.

    Attributes:
        start: at the first step.
        end: at the last one.
        schedule: ``linear``, or ``cosine``, which leaves the start and reaches the end slowly.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    start: float
    end: float
    schedule: Literal["linear", "cosine"] = "linear"


def value_at(value: float | Ramp, progress: float) -> float:
    """The number at ``progress`` in [0, 1] of the training."""
    if not isinstance(value, Ramp):
        return value
    done = progress if value.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * progress))
    return value.start + (value.end - value.start) * done


def _numbers(value: Any) -> tuple[float, ...]:
    return (value.start, value.end) if isinstance(value, Ramp) else (value,)


def as_temperature(value: float | Ramp) -> float | Ramp:
    """A pydantic validator: above 0 throughout."""
    if min(_numbers(value)) <= 0:
        raise ValueError("a temperature must be above 0, from start to end")
    return value


def as_weight(value: float | Ramp) -> float | Ramp:
    """A pydantic validator: at least 0 throughout."""
    if min(_numbers(value)) < 0:
        raise ValueError("must be at least 0, from start to end")
    return value


def as_share(value: float | Ramp) -> float | Ramp:
    """A pydantic validator: in [0, 1] throughout."""
    if not all(0 <= number <= 1 for number in _numbers(value)):
        raise ValueError("must be in [0, 1], from start to end")
    return value


Scheduled = Annotated[float | Ramp, pydantic.Field(union_mode="left_to_right")]
"""A number, or ``{start, end, schedule}``."""
