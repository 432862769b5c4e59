"""What planning reads of the uncompressed model and the data, by name: the pruning criteria, singular values for ranks, and how often tokens occur."""

from __future__ import annotations

from torch import nn

from compressors.context import TrainingData
from compressors.graph.model_graph import ModelGraph
from compressors.low_rank import SINGULAR_VALUES, singular_values
from compressors.pruning import CRITERIA, score
from compressors.pruning.criteria import UnitScores
from compressors.vocabulary import TOKENS, token_counts

__all__ = ["scores_of"]


def scores_of(model: nn.Module, graph: ModelGraph, name: str, data: TrainingData | None) -> UnitScores:
    """The score called ``name`` (see ``Compressor.criteria``) of the traced, uncompressed ``model``, which is left as it was.

    Raises:
        UserError: an unknown name, or one that needs data where there is none.
        DivergedError: a weight or the loss is not finite.
    """
    if name == SINGULAR_VALUES:
        return singular_values(model, graph)
    if name.startswith(TOKENS):
        return token_counts(model, graph, name.removeprefix(TOKENS), data)
    if data is None or name not in CRITERIA or not CRITERIA[name].needs_data:
        return score(model, graph, name)
    return score(model, graph, name, data.batches("calibration"), data.loss)
