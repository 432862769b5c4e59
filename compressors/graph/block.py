"""A block of a stack, as the traced model knows it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Block", "Source"]

Source = tuple[str, int | str] | None
"""Where a pass-through finds one of its outputs: ``("args", position)``, ``("kwargs", name)``, or nowhere."""


@dataclass(frozen=True, slots=True)
class Block:
    """A module whose output can be replaced by its input.

    Attributes:
        path: its name in the model.
        sources: for each output, the input that stands for it.
        single: whether it returns one tensor rather than a tuple.
    """

    path: str
    sources: tuple[Source, ...]
    single: bool
