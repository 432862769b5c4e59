"""L2 magnitude of a group of parameters [Fang2023]_."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from torch import nn

from compressors.context import Batch
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.criteria.criterion import Criterion, Loss, UnitScores, accumulate, weights

__all__ = ["L2"]


class L2(Criterion):
    """Root of a unit's sum of squared weights, averaged over the parameters that it is part of.

    .. [Fang2023] Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023.
    """

    name: ClassVar[str] = "l2"

    def score(self, model: nn.Module, graph: ModelGraph, batches: Iterable[Batch], loss: Loss | None) -> UnitScores:  # noqa: ARG002  (weights alone)
        """See ``Criterion``."""
        squares = accumulate(graph, {name: weight.detach().double().square() for name, weight in weights(model, graph).items()})
        return {axis: np.sqrt(values) for axis, values in squares.items()}
