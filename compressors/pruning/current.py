"""Which units a model can do without as it is now, rather than as it was when scores were computed for planning."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import kept_units
from compressors.pruning.criteria import CRITERIA
from compressors.pruning.remaining import remaining
from compressors.pruning.selection import Candidate, best

__all__ = ["SPARSE_TRAINED", "least_missed", "most_important", "widths_to_cut"]

SPARSE_TRAINED = "sparse_trained"
"""Entry of a model's structure: its weights were trained so that other units than those of the plan may be the small ones."""


def widths_to_cut(model: nn.Module, graph: ModelGraph, edit: GraphEdit) -> dict[str, int]:
    """Of each axis that ends narrower than it is, how many units it has."""
    present = kept_units(model)
    units = {axis.name: len(present.get(axis.name, range(axis.size))) for axis in graph.axes}
    return {name: units[name] for name, kept in edit.kept.items() if len(kept) < units[name]}


def most_important(model: nn.Module, due: Mapping[str, int], criterion: str, context: Context) -> dict[str, NDArray[np.int64]]:
    """Of each axis in ``due`` so many units, counted in the uncompressed model, by scores of the model as it is.

    Raises:
        CompressionError: the criterion needs data, and there is none.
    """
    scoring, data, graph = CRITERIA[criterion], context.data, remaining(context.graph, model)
    if scoring.needs_data and data is None:
        raise CompressionError(f"criterion {criterion} needs data; pass data")
    scores = scoring.score(
        model, graph, data.batches("calibration") if scoring.needs_data and data is not None else (), data.loss if data is not None else None
    )
    present, sizes = kept_units(model), {axis.name: axis.size for axis in context.graph.axes}
    kept: dict[str, NDArray[np.int64]] = {}
    for name, count in due.items():
        units = np.asarray(present.get(name, range(sizes[name])), dtype=np.int64)
        kept[name] = units[best(Candidate(scores[name], np.arange(len(units))), count)]
    return kept


def least_missed(model: nn.Module, edit: GraphEdit, criterion: str, context: Context) -> dict[str, NDArray[np.int64]]:
    """The units to keep at the widths of ``edit``."""
    return most_important(model, {name: len(edit.kept[name]) for name in widths_to_cut(model, context.graph, edit)}, criterion, context)
