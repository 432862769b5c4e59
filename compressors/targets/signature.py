"""What an exported program takes and returns: names, and which sizes may vary."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from compressors.errors import UserError

__all__ = ["BATCH", "PAST", "PAST_AND_SEQUENCE", "SEQUENCE", "Input", "Signature"]

BATCH, SEQUENCE, PAST = "batch", "sequence", "past"
PAST_AND_SEQUENCE = f"{PAST} + {SEQUENCE}"
_FEWEST = 2
"""torch.export takes sizes of 0 and 1 for constants."""


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor.

    Attributes:
        name: as the runtime knows it.
        dims: each a number, or the name of an axis that may have any size.
        dtype: of its elements.
        state: what earlier calls of the program returned; empty at first.
    """

    name: str
    dims: tuple[int | str, ...]
    dtype: torch.dtype
    state: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs, by position, and outputs of a program.

    Attributes:
        inputs: in the order of the program's arguments.
        outputs: names; ``logits`` first where there are any.
        longest: most positions that a sequence may have, or None where nothing limits it.
        note: why a size that could vary does not; empty where all vary.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...] = ("logits",)
    longest: int | None = None
    note: str = ""

    def arguments(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The program's arguments: what is not given is an empty state, or a mask that hides nothing.

        Raises:
            UserError: an input has another size than the program takes.
        """
        sizes = self._sizes(inputs)
        sizes.setdefault(PAST, 0)
        sizes[PAST_AND_SEQUENCE] = sizes[PAST] + sizes.get(SEQUENCE, 0)
        device = next(iter(inputs.values())).device
        return tuple(inputs[i.name] if i.name in inputs else _filled(i, sizes, device) for i in self.inputs)

    def examples(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Arguments for torch.export: as ``inputs``, but no axis that may vary has a size of 0 or 1."""
        sizes = {name: max(size, _FEWEST) for name, size in self._sizes(inputs).items()}
        for name in (dim for i in self.inputs for dim in i.dims if isinstance(dim, str) and dim != PAST_AND_SEQUENCE):
            # Unlike all others, so that nothing takes two axes for one.
            sizes.setdefault(name, next(n for n in itertools.count(3) if n not in sizes.values()))
        sizes[PAST_AND_SEQUENCE] = sizes.get(PAST, 0) + sizes.get(SEQUENCE, 0)
        device = next(iter(inputs.values())).device
        return tuple(_grown(inputs[i.name], i, sizes) if i.name in inputs and not _grows(i) else _filled(i, sizes, device) for i in self.inputs)

    @property
    def axes(self) -> tuple[dict[int, str], ...]:
        """Of each input: positions and names of the axes that may vary."""
        return tuple({at: dim for at, dim in enumerate(i.dims) if isinstance(dim, str)} for i in self.inputs)

    def _sizes(self, inputs: Mapping[str, Tensor]) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for i in self.inputs:
            value = inputs.get(i.name)
            if value is None:
                continue
            if len(value.shape) != len(i.dims) or any(isinstance(dim, int) and dim != size for dim, size in zip(i.dims, value.shape, strict=True)):
                taken = "x".join(str(dim) for dim in i.dims)
                reason = f" ({self.note})" if self.note else ""
                raise UserError(f"{i.name} is {'x'.join(map(str, value.shape))}; the exported model takes {taken}{reason}")
            sizes |= {dim: size for dim, size in zip(i.dims, value.shape, strict=True) if isinstance(dim, str)}
        return sizes


def _grows(given: Input) -> bool:
    """Whether its size follows from others: a mask over past and present."""
    return PAST_AND_SEQUENCE in given.dims


def _filled(wanted: Input, sizes: Mapping[str, int], device: torch.device) -> Tensor:
    shape = [sizes[dim] if isinstance(dim, str) else dim for dim in wanted.dims]
    return torch.zeros(shape, dtype=wanted.dtype, device=device) if wanted.state else torch.ones(shape, dtype=wanted.dtype, device=device)


def _grown(value: Tensor, wanted: Input, sizes: Mapping[str, int]) -> Tensor:
    repeats = [-(-sizes[dim] // size) if isinstance(dim, str) else 1 for dim, size in zip(wanted.dims, value.shape, strict=True)]
    return value.repeat(*repeats)
