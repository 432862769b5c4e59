"""Another teacher than the uncompressed model, as a step names it. Whoever runs an experiment makes a model of it: ``Context.teachers``."""

from __future__ import annotations

import re
from typing import Any, Self

import pydantic

__all__ = ["TeacherSpec"]


class TeacherSpec(pydantic.BaseModel):
    """Which model.

    Attributes:
        pretrained: folder or hub id of a ``transformers`` model with a head for the task.
        revision: of the hub id.
        factory: ``file.py:function`` next to the experiment, or ``package.module:function``; called with ``arguments``.
        arguments: keyword arguments of the factory.
        weights: of the factory's model: safetensors, or a state dict that is read with ``weights_only``.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    pretrained: str | None = None
    revision: str | None = None
    factory: str | None = None
    arguments: dict[str, Any] = pydantic.Field(default_factory=dict)
    weights: str | None = None

    @pydantic.model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.factory) == bool(self.pretrained):
            raise ValueError("give either pretrained (a folder or hub id) or factory (file.py:function)")
        if self.factory and not re.fullmatch(r".*\.py:\w+|[^:.]+(\.[^:.]+)*:\w+", self.factory):
            raise ValueError(f"factory {self.factory!r} names no function; accepted: file.py:function or package.module:function")
        if self.pretrained and (self.weights or self.arguments):
            raise ValueError("weights and arguments belong to factory; a pretrained model brings its own")
        return self
