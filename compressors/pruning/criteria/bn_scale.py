"""Scale of batch norms [Liu2017]_."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.context import Batch
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.criteria.criterion import Criterion, Loss, UnitScores, accumulate, weights
from compressors.pruning.criteria.l2 import L2

__all__ = ["BatchNormScale"]


class BatchNormScale(Criterion):
    """``|gamma|`` of the batch norms that a unit passes through, averaged over them; summed for a block.

    An axis that no batch norm with a scale lies on is ranked by ``l2``, and so is a stack with a block that has none: a score says which units of one axis go
    first, and both are never mixed within an axis. In a model without batch norms this criterion is ``l2``.

    .. [Liu2017] Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.
    """

    name: ClassVar[str] = "bn_scale"

    def score(self, model: nn.Module, graph: ModelGraph, batches: Iterable[Batch], loss: Loss | None) -> UnitScores:
        """See ``Criterion``."""
        scales = {name: weight.detach().abs() for name, weight in weights(model, graph).items() if _is_scale(model, name)}
        normalised = {graph.axes[i].name for entry in graph.parameter_dims if entry.parameter in scales for segment in entry.segments for i in segment}
        normalised |= {
            axis.name for axis in graph.prunable if axis.kind == "blocks" and all(any(_within(name, path) for name in scales) for path in axis.modules)
        }
        by_scale, by_magnitude = accumulate(graph, scales), L2().score(model, graph, batches, loss)
        return {axis.name: (by_scale if axis.name in normalised else by_magnitude)[axis.name] for axis in graph.prunable}


def _is_scale(model: nn.Module, name: str) -> bool:
    owner, _, attribute = name.rpartition(".")
    return attribute == "weight" and isinstance(model.get_submodule(owner), _BatchNorm)


def _within(name: str, path: str) -> bool:
    return name.startswith(f"{path}.")
