"""The contract of a pruning criterion, and what its implementations share: from elements of parameters to units of axes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.context import Batch
from compressors.graph.model_graph import ModelGraph

__all__ = ["Criterion", "Loss", "UnitScores", "accumulate", "summed", "weights"]

Loss = Callable[[Tensor, Batch], Tensor]
"""Mean loss of logits on a batch, a scalar."""

UnitScores = dict[str, NDArray[np.float64]]
"""Importance of each unit by axis name, ``[size]``, never negative; higher is kept longer."""


class Criterion(ABC):
    """How important each unit of each prunable axis is. Stateless."""

    name: ClassVar[str]
    needs_data: ClassVar[bool] = False
    needs_loss: ClassVar[bool] = False

    @abstractmethod
    def score(self, model: nn.Module, graph: ModelGraph, batches: Iterable[Batch], loss: Loss | None) -> UnitScores:
        """Scores of the traced, uncompressed ``model``, which is left as it was.

        Args:
            model: the traced model.
            graph: its trace.
            batches: examples; read only where ``needs_data``.
            loss: the task's loss; read only where ``needs_loss``.

        Raises:
            DivergedError: a score is not finite.
        """


def weights(model: nn.Module, graph: ModelGraph) -> dict[str, nn.Parameter]:
    """The parameters on some axis that make up its units' importance: biases say little about a unit and are left out."""
    named = dict(model.named_parameters(remove_duplicate=False))
    on_axes = dict.fromkeys(entry.parameter for entry in graph.parameter_dims)
    return {name: named[name] for name in on_axes if name in named and not name.endswith("bias")}


def accumulate(graph: ModelGraph, elements: dict[str, Tensor]) -> UnitScores:
    """Sum elementwise contributions over everything but one axis, and average over the parameters on that axis [Fang2023]_.

    Args:
        graph: the trace.
        elements: contributions by parameter, shaped like it.
    """
    collected = summed(graph, elements, torch.float64)
    scores: UnitScores = {}
    for axis in graph.prunable:
        parts = collected[axis.name]
        mean = torch.stack(parts).mean(dim=0) if parts else torch.ones(axis.size, dtype=torch.float64)
        scores[axis.name] = mean.cpu().numpy().astype(np.float64)
    return scores


def summed(graph: ModelGraph, elements: dict[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, list[Tensor]]:
    """For each prunable axis, what ``elements`` come to on each of its units, ``[size]``, one tensor for each parameter on it.

    Args:
        graph: the trace.
        elements: contributions by parameter, shaped like it.
        dtype: to sum in; None is that of the elements.
    """
    collected: dict[str, list[Tensor]] = {axis.name: [] for axis in graph.prunable}
    for entry in graph.parameter_dims:
        if entry.parameter not in elements:
            continue
        tensor = elements[entry.parameter].to(dtype or elements[entry.parameter].dtype)
        along = tensor.sum(dim=[d for d in range(tensor.dim()) if d != entry.dim]) if tensor.dim() > 1 else tensor
        totals: dict[int, Tensor] = {}
        for axis, sums in _per_axis(graph, along, entry.segments):
            totals[axis] = totals[axis] + sums if axis in totals else sums
        for axis, sums in totals.items():
            if graph.axes[axis].fixed is None:
                collected[graph.axes[axis].name].append(sums)
    for axis_ in graph.prunable:
        if axis_.kind == "blocks":
            totals_ = [
                sum((e.to(dtype or e.dtype).sum() for name, e in elements.items() if name.startswith(f"{path}.")), torch.zeros((), dtype=dtype))
                for path in axis_.modules
            ]
            collected[axis_.name].append(torch.stack(totals_))
    return collected


def _per_axis(graph: ModelGraph, along: Tensor, segments: tuple[tuple[int, ...], ...]) -> Iterator[tuple[int, Tensor]]:
    start = 0
    for segment in segments:
        sizes = [graph.axes[axis].size for axis in segment]
        length = int(np.prod(sizes))
        block = along[start : start + length].reshape(sizes)
        start += length
        for position, axis in enumerate(segment):
            others = [d for d in range(len(segment)) if d != position]
            yield axis, block.sum(dim=others) if others else block
