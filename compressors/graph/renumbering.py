"""A trimmed vocabulary in a live module: inputs and outputs keep their numbers, tables say which rows and columns of the smaller weights are meant.

Both tables are buffers of 32-bit integers, one for each token of the whole vocabulary: ``token_rows`` in front of an embedding, ``token_columns`` behind an
output layer. A token that was dropped has the row of another, and never wins as an output.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from compressors.graph.model_graph import Vocabulary

__all__ = ["ABSENT", "carry_table", "install_tables", "is_table", "set_rows"]

ABSENT = -1e4
"""The logit of a token that was dropped: its probability is 0 in every precision that we compute in, and its loss is finite."""


class _Lookup(nn.Module):
    """In front of an embedding."""

    token_rows: Tensor

    def forward(self, input: Tensor) -> Any:  # noqa: A002 - the name that embeddings have
        return super().forward(self.token_rows[input])


class _Columns(nn.Module):
    """Behind an output layer."""

    token_columns: Tensor

    def forward(self, input: Tensor) -> Any:  # noqa: A002 - the name that linear layers have
        logits = super().forward(input)
        return nn.functional.pad(logits, (0, 1), value=ABSENT).index_select(-1, self.token_columns)


@functools.cache
def _with(first: type[nn.Module], second: type[nn.Module]) -> type[nn.Module]:
    return type(second.__name__, (first, second), {"__module__": second.__module__, "__qualname__": f"{first.__name__.strip('_')}.{second.__qualname__}"})


def install_tables(model: nn.Module, vocabulary: Mapping[str, Any], size: int, kept: Sequence[int]) -> None:
    """Put the tables of a vocabulary into ``model``, in place, where they are not there yet; dropped tokens have the first row until ``set_rows``.

    Args:
        model: its weights are cut already.
        vocabulary: a ``Vocabulary`` as plain data.
        size: tokens of the whole vocabulary.
        kept: those that stay, sorted.
    """
    rows, columns = torch.zeros(size, dtype=torch.int32), torch.full((size,), len(kept), dtype=torch.int32)
    for table in (rows, columns):
        table[torch.as_tensor(kept, dtype=torch.int64)] = torch.arange(len(kept), dtype=torch.int32)
    for path, kind, name, table in (
        *((path, _Lookup, "token_rows", rows) for path in vocabulary["embeddings"]),
        *((path, _Columns, "token_columns", columns) for path, _ in vocabulary["heads"]),
    ):
        module = model.get_submodule(path)
        if isinstance(module, kind):
            continue
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.padding_idx = int(rows[module.padding_idx])
        module.register_buffer(name, table.to(next(module.parameters()).device))
        module.__class__ = _with(kind, type(module))


def carry_table(old: nn.Module, new: nn.Module) -> None:
    """Give ``new``, which takes the place of an output layer, its table."""
    if isinstance(old, _Columns):
        kind: Any = type(new)
        new.register_buffer("token_columns", old.token_columns)
        new.__class__ = _with(_Columns, kind)


def set_rows(model: nn.Module, vocabulary: Vocabulary, rows: Tensor) -> None:
    """Replace the rows of every token, ``[size]``, in place."""
    for path in vocabulary.embeddings:
        table: Any = model.get_submodule(path).token_rows
        table.copy_(rows)


def is_table(name: str) -> bool:
    """Whether an entry of a state dict is a table."""
    return name.rpartition(".")[2] in ("token_rows", "token_columns")
