"""The ``model:`` section of an experiment, typed."""

from __future__ import annotations

import re
from typing import Any, Literal, Self

import pydantic

__all__ = ["ModelSpec", "TaskName"]

TaskName = Literal["image-classification", "text-classification", "causal-lm"]


class ModelSpec(pydantic.BaseModel):
    """Which model.

    Attributes:
        factory: ``file.py:function`` next to the experiment, or ``package.module:function``; called with ``arguments``.
        arguments: keyword arguments of the factory.
        weights: safetensors, or a state dict (.pt, .pth) that is read with ``weights_only``.
        pretrained: folder or hub id of a ``transformers`` model.
        revision: of the hub id.
        task: what the model is for.
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
        if self.factory and not re.fullmatch(r".*\.py:\w+|[^:.]+(\.[^:.]+)*:\w+", self.factory):
            raise ValueError(f"factory {self.factory!r} names no function; accepted: file.py:function or package.module:function")
        if self.pretrained and (self.weights or self.arguments):
            raise ValueError("weights and arguments belong to factory; a pretrained model brings its own")
        return self
