"""The ``model:`` section of an experiment, typed."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

import pydantic

from compressors.errors import near_miss

__all__ = ["PLACE", "TASKS", "ModelSpec", "TaskName"]

TASKS = (
    *(f"{what}-{kind}" for what in ("image", "text", "series", "audio") for kind in ("classification", "multi-label", "regression")),
    "token-classification",
    "image-to-image",
    "causal-lm",
    "seq2seq",
)
"""Names of the tasks: what goes in, and what comes out."""


def _known(task: str) -> str:
    if task not in TASKS and not PLACE.fullmatch(task):
        raise ValueError(f"unknown task {task!r}; accepted: {', '.join(TASKS)}, or FILE.py:FUNCTION{near_miss(task, TASKS)}")
    return task


PLACE = re.compile(r".*\.py:\w+|[^:.]+(\.[^:.]+)*:\w+")
"""A function, in a file or in a module."""

TaskName = Annotated[str, pydantic.AfterValidator(_known)]


class ModelSpec(pydantic.BaseModel):
    """Which model.

    Attributes:
        factory: ``file.py:function`` next to the experiment, or ``package.module:function``; called with ``arguments``.
        arguments: keyword arguments of the factory.
        weights: safetensors, or a state dict (.pt, .pth) that is read with ``weights_only``.
        pretrained: folder or hub id of a ``transformers`` model.
        revision: of the hub id.
        task: what the model is for: one of ``TASKS``, or a function of yours that makes a ``Task`` (``file.py:function`` or ``package.module:function``).
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    factory: str | None = None
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    weights: str | None = None
    pretrained: str | None = None
    revision: str | None = None
    task: TaskName = "image-classification"

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.factory) == bool(self.pretrained):
            raise ValueError("give either factory (file.py:function) or pretrained (a folder or hub id)")
        if self.factory and not PLACE.fullmatch(self.factory):
            raise ValueError(f"factory {self.factory!r} names no function; accepted: file.py:function or package.module:function")
        if self.pretrained and (self.weights or self.arguments):
            raise ValueError("weights and arguments belong to factory; a pretrained model brings its own")
        return self

    @property
    def own_task(self) -> str | None:
        """The place of the user's own task; None for one of ours."""
        return self.task if ":" in self.task else None

    @property
    def kind(self) -> str:
        """What the outputs are: the task's name without what goes in."""
        return next((kind for kind in ("multi-label", "regression") if self.task.endswith(f"-{kind}")), None) or (
            "classification" if self.task.endswith("-classification") and self.task != "token-classification" else self.task
        )

    @property
    def takes(self) -> str:
        """What goes in: ``image``, ``text``, ``series`` or ``audio``."""
        return "text" if self.task in ("token-classification", "causal-lm", "seq2seq") else self.task.partition("-")[0]
