"""Trimming the vocabulary: embedding rows (and output columns) of tokens that the data does not use are removed.

The model keeps accepting the tokenizer's own numbers: a table in front of the embedding says which row a token has (see ``compressors.graph.renumbering``). A
token that was dropped has the row of the kept token whose embedding points the most in its direction, which costs a classifier far less than one row for all
unknown words.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Context, TrainingData
from compressors.errors import CompressionError, UserError
from compressors.graph.model_graph import ModelGraph, Vocabulary
from compressors.graph.renumbering import set_rows
from compressors.graph.surgery import cut, kept_units

__all__ = ["TOKENS", "TrimVocabulary", "token_counts"]

TOKENS = "tokens:"
"""A score is called this and the name of a split."""

_CHUNK = 1024


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class TrimVocabulary(Compressor):
    """Keep the tokens that the data uses, and the special ones.

    Attributes:
        splits: whose tokens count; ``report`` is left out unless it is named, so that what is measured there holds for new texts.
        min_count: a token that occurs less often is dropped too.
        keep: numbers of tokens that stay in any case.
    """

    name: ClassVar[str] = "trim_vocabulary"

    splits: Annotated[tuple[Literal["train", "calibration", "search", "report"], ...], pydantic.Field(min_length=1)] = ("train",)
    min_count: Annotated[int, pydantic.Field(ge=1)] = 1
    keep: tuple[Annotated[int, pydantic.Field(ge=0)], ...] = ()

    def criteria(self) -> tuple[str, ...]:
        """How often each token occurs, by split."""
        return tuple(f"{TOKENS}{split}" for split in dict.fromkeys(self.splits))

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:
        """Choose the tokens that stay. See ``Compressor.plan``."""
        vocabularies = graph.select_vocabularies(self.include, self.exclude)
        if not vocabularies:
            has = ", ".join(v.axis for v in graph.vocabularies) or "no embedding that an input indexes and nothing else depends on"
            raise CompressionError(f"trim_vocabulary: nothing to trim; the model has {has}")
        kept: dict[str, NDArray[np.int64]] = {}
        for vocabulary in vocabularies:
            counts = np.sum([scores[name][vocabulary.axis] for name in self.criteria()], axis=0)
            wanted = np.union1d(np.flatnonzero(counts >= self.min_count), np.asarray(self.keep, dtype=np.int64))
            if len(wanted) and wanted[-1] >= len(counts):
                raise CompressionError(f"trim_vocabulary: keep names token {wanted[-1]}; {vocabulary.axis} has {len(counts)} tokens")
            present = np.asarray(edit.kept.get(vocabulary.axis, np.arange(len(counts))))
            stays = np.intersect1d(present, wanted)
            if not len(stays):
                raise CompressionError(
                    f"trim_vocabulary: no token occurs {self.min_count} times or more; the most frequent one occurs {counts.max():.0f} times"
                )
            if len(stays) < len(counts):
                kept |= dict.fromkeys(vocabulary.axes, stays)
        return edit.cut(kept)

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """Slice the embeddings and give every token its row. See ``Compressor.apply``."""
        already = kept_units(model)
        smaller = cut(model, context.graph, edit.kept)
        for vocabulary in context.graph.vocabularies:
            before = np.asarray(already.get(vocabulary.axis, np.arange(context.graph.axes[context.graph.axis_index(vocabulary.axis)].size)))
            after = np.asarray(edit.kept.get(vocabulary.axis, before))
            if len(after) < len(before):
                _renumber(model, smaller, vocabulary, np.searchsorted(before, after))
                context.log(f"trim_vocabulary: {vocabulary.axis}: {len(after):,} of {len(before):,} tokens stay")
        planned = int(context.graph.count_parameters(edit.shapes(context.graph))[0])
        found = sum(parameter.numel() for parameter in smaller.parameters())
        if found != planned:
            raise CompressionError(f"trim_vocabulary: the model has {found} parameters, {planned} were planned")
        return smaller


def _renumber(model: nn.Module, smaller: nn.Module, vocabulary: Vocabulary, kept: NDArray[np.int64]) -> None:
    """Rows of ``smaller`` for every token; ``kept`` are rows of ``model``."""
    embedding = model.get_submodule(vocabulary.embeddings[0])
    rows = _nearest(embedding.get_parameter("weight").detach(), torch.from_numpy(kept))
    table = getattr(embedding, "token_rows", None)
    set_rows(smaller, vocabulary, rows if table is None else rows[table.long()])


def _nearest(weight: Tensor, kept: Tensor) -> Tensor:
    """For each row of ``weight`` the position in ``kept`` of the row with the largest cosine; its own where it stays. ``[rows]``."""
    directions = nn.functional.normalize(weight.float(), dim=1)
    candidates = directions[kept.to(weight.device)].T.contiguous()
    rows = torch.cat([(chunk @ candidates).argmax(1) for chunk in torch.split(directions, _CHUNK)])
    rows[kept.to(weight.device)] = torch.arange(len(kept), device=weight.device)
    return rows


def token_counts(model: nn.Module, graph: ModelGraph, split: str, data: TrainingData | None) -> dict[str, NDArray[np.float64]]:
    """How often each token occurs in a split, by the axis of its vocabulary, ``[tokens]``; infinitely often where it is special.

    Special are the numbers in ``data.special_tokens``, where there is such an attribute, and those that the model's configuration calls ``..._token_id``.

    Raises:
        UserError: there is no data, or its batches do not have the vocabulary's input.
    """
    if data is None:
        raise UserError("trim_vocabulary counts the tokens of the data; pass data= with batches, steps, loss and score")
    counts = {vocabulary.axis: np.zeros(graph.axes[graph.axis_index(vocabulary.axis)].size) for vocabulary in graph.vocabularies}
    for batch in data.batches(split):
        for vocabulary in graph.vocabularies:
            missing = [name for name in vocabulary.inputs if name not in batch.inputs]
            if len(missing) == len(vocabulary.inputs):
                raise UserError(f"trim_vocabulary: the data has no input {', '.join(missing)}; it has {', '.join(batch.inputs)}")
            for name in set(vocabulary.inputs) - set(missing):
                counts[vocabulary.axis] += np.bincount(batch.inputs[name].cpu().numpy().ravel(), minlength=len(counts[vocabulary.axis]))
            if vocabulary.heads:
                targets = batch.labels.cpu().numpy().ravel()
                counts[vocabulary.axis] += np.bincount(targets[targets >= 0], minlength=len(counts[vocabulary.axis]))
    for found in counts.values():
        found[[token for token in _special(model, data) if token < len(found)]] = np.inf
    return counts


def _special(model: nn.Module, data: TrainingData) -> set[int]:
    config = getattr(model, "config", None)
    values: list[object] = [value for name, value in vars(config).items() if name.endswith("_token_id")] if config is not None else []
    flat = [item for value in values for item in (value if isinstance(value, Iterable) and not isinstance(value, str) else [value])]
    return {int(token) for token in (*flat, *getattr(data, "special_tokens", ())) if isinstance(token, (int, np.integer)) and token >= 0}
