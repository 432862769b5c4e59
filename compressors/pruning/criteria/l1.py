"""L1 magnitude [Li2017]_."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import nn

from compressors.context import Batch
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.criteria.criterion import Criterion, Loss, UnitScores, accumulate, weights

__all__ = ["L1"]


class L1(Criterion):
    """Sum of absolute weights of a unit, averaged over the parameters that it is part of.

    .. [Li2017] Li et al., Pruning Filters for Efficient ConvNets, ICLR 2017.
    """

    name: ClassVar[str] = "l1"

    def score(self, model: nn.Module, graph: ModelGraph, batches: Iterable[Batch], loss: Loss | None) -> UnitScores:  # noqa: ARG002  (weights alone)
        """See ``Criterion``."""
        return accumulate(graph, {name: weight.detach().abs() for name, weight in weights(model, graph).items()})
