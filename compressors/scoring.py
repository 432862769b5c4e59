"""What planning reads of the uncompressed model, by name: the pruning criteria, and the singular values that ranks follow from."""

from __future__ import annotations

from torch import nn

from compressors.context import TrainingData
from compressors.graph.model_graph import ModelGraph
from compressors.low_rank import SINGULAR_VALUES, singular_values
from compressors.pruning import CRITERIA, score
from compressors.pruning.criteria import UnitScores

__all__ = ["scores_of"]


def scores_of(model: nn.Module, graph: ModelGraph, name: str, data: TrainingData | None) -> UnitScores:
    """The score called ``name`` (see ``Compressor.criteria``) of the traced, uncompressed ``model``, which is left as it was.

    Raises:
        UserError: an unknown name, or one that needs data where there is none.
        DivergedError: a weight or the loss is not finite.
    """
    if name == SINGULAR_VALUES:
        return singular_values(model, graph)
    if data is None or name not in CRITERIA or not CRITERIA[name].needs_data:
        return score(model, graph, name)
    return score(model, graph, name, data.batches("calibration"), data.loss)
