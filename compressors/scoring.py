"""What planning reads of the uncompressed model and the data, by name: pruning criteria, singular values, how often tokens occur, what few bits cost."""

from __future__ import annotations

from torch import nn

from compressors.context import TrainingData
from compressors.depthwise_separable import SEPARABLE_ERROR, separable_errors
from compressors.graph.model_graph import ModelGraph
from compressors.low_rank import SINGULAR_VALUES, singular_values
from compressors.pruning import CRITERIA, score
from compressors.pruning.criteria import UnitScores
from compressors.quantization.sensitivity import SENSITIVITY, sensitivities
from compressors.targets.target import Target
from compressors.vocabulary import TOKENS, token_counts

__all__ = ["depends_on_target", "scores_of"]


def scores_of(model: nn.Module, graph: ModelGraph, name: str, data: TrainingData | None, target: Target | None = None) -> UnitScores:
    """The score called ``name`` (see ``Compressor.criteria``) of the traced, uncompressed ``model``, which is left as it was.

    ``target`` is read by the scores that depend on it.

    Raises:
        UserError: an unknown name, or one that needs data where there is none.
        DivergedError: a weight or the loss is not finite.
    """
    if name == SINGULAR_VALUES:
        return singular_values(model, graph)
    if name == SEPARABLE_ERROR:
        return separable_errors(model, graph)
    if name.startswith(TOKENS):
        return token_counts(model, graph, name.removeprefix(TOKENS), data)
    if depends_on_target(name):
        assert target is not None, "whoever plans a quantize step knows the runtime"
        return sensitivities(model, graph, name, data, target)
    if data is None or name not in CRITERIA or not CRITERIA[name].needs_data:
        return score(model, graph, name)
    return score(model, graph, name, data.batches("calibration"), data.loss)


def depends_on_target(name: str) -> bool:
    """Whether a score is another one for another runtime."""
    return name.startswith(SENSITIVITY)
