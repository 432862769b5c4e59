"""Structured pruning."""

from collections.abc import Iterable

from torch import nn

from compressors.context import Batch
from compressors.errors import UserError, near_miss
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.criteria import CRITERIA, Loss, UnitScores
from compressors.pruning.iterative import PruneIteratively
from compressors.pruning.prune import Prune

__all__ = ["CRITERIA", "Prune", "PruneIteratively", "score"]


def score(model: nn.Module, graph: ModelGraph, criterion: str, batches: Iterable[Batch] = (), loss: Loss | None = None) -> UnitScores:
    """Importance of every unit of every prunable axis of the traced, uncompressed ``model``: ``{axis name: [size]}``.

    Args:
        model: the traced model; left as it was.
        graph: its trace.
        criterion: a name in ``CRITERIA``.
        batches: calibration examples, for criteria with ``needs_data``.
        loss: mean loss of logits on a batch, for criteria with ``needs_loss``.

    Raises:
        UserError: an unknown criterion, or one that needs data where none is given.
        DivergedError: the loss, or what a layer is given, is not finite.
    """
    if criterion not in CRITERIA:
        raise UserError(f"unknown criterion {criterion!r}; accepted: {', '.join(CRITERIA)}{near_miss(criterion, CRITERIA)}")
    chosen = CRITERIA[criterion]
    if not chosen.needs_data:
        return chosen.score(model, graph, (), None)
    batches = list(batches)
    if not batches or (chosen.needs_loss and loss is None):
        needed = "calibration data and a loss" if chosen.needs_loss else "calibration data"
        raise UserError(f"criterion {criterion!r} needs {needed}; criteria without: {', '.join(n for n, c in CRITERIA.items() if not c.needs_data)}")
    return chosen.score(model, graph, batches, loss)
