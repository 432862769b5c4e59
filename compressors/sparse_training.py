"""Training towards weights that can be removed: L1, group lasso over prunable units [Wen2016]_, or L1 on the scales of batch norms [Liu2017]_.

It stands before ``prune``, which then chooses units by the weights that they have afterwards, at the widths that it planned before. What is small is cut at
little cost. A subgradient of the penalty is followed, so that weights become small, not zero.

.. [Wen2016] Wen et al., Learning Structured Sparsity in Deep Neural Networks, NeurIPS 2016.
.. [Liu2017] Liu et al., Learning Efficient Convolutional Networks through Network Slimming, ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import pydantic
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from compressors.compressor import STEP_CONFIG, GraphEdit
from compressors.context import Batch, Context
from compressors.distillation import Distill
from compressors.errors import CompressionError
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import note
from compressors.objective import Objective
from compressors.pruning.criteria.criterion import summed, weights
from compressors.pruning.current import SPARSE_TRAINED
from compressors.pruning.prune import DEFAULT_KINDS
from compressors.pruning.remaining import remaining
from compressors.scheduled import Ramp, Scheduled, as_share, as_weight, value_at

__all__ = ["SparseTrain"]


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class SparseTrain(Distill):
    """Train with a penalty on what ``prune`` could remove: the units of channels, feed-forward layers and heads.

    Attributes:
        penalty: ``group_lasso``: of each unit, the root of the sum of its squared weights, times the root of their number; ``l1``: of each weight of a unit,
            its size; ``bn_scale``: of the batch norms that units pass, the size of their scales.
        strength: by which the penalty is multiplied before it is added to the loss; a number, or ``{start, end, schedule}``.
        alpha: as in ``Distill``; 0 by default: labels alone.
        include, exclude: patterns of the axes that are penalised.
        epochs, steps, temperature, teacher, features, attention, logits, kl_limit, views: see ``Distill``.
        learning_rate, schedule, optimizer, weight_decay, batch_size, clip, accumulate, precision, early_stop: see ``TrainingSpec``.
    """

    name: ClassVar[str] = "sparse_train"
    version: ClassVar[int] = 1

    penalty: Literal["group_lasso", "l1", "bn_scale"] = "group_lasso"
    strength: Annotated[Scheduled, pydantic.AfterValidator(as_weight)] = 1e-4
    alpha: Annotated[Scheduled, pydantic.AfterValidator(as_share)] = 0.0

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """A trained copy, which says that it was; see ``Prune.apply``."""
        trained = Distill.apply(self, model, edit, context)
        note(trained, context.graph, **{SPARSE_TRAINED: True})
        return trained

    def objective(self, student: nn.Module, teacher: nn.Module | None, context: Context) -> Objective:
        """That of the distillation, and the penalty."""
        selected = {context.graph.axes[i].name for i in context.graph.select_axes(self.include, self.exclude)}
        graph = remaining(context.graph, student)
        axes = {axis.name for axis in graph.prunable if axis.name in selected and axis.kind in DEFAULT_KINDS}
        penalty = _PENALTIES[self.penalty](student, graph, axes)
        if penalty is None:
            raise CompressionError(f"{self.name}: no {'batch norm' if self.penalty == 'bn_scale' else 'unit of ' + ', '.join(DEFAULT_KINDS)} to make small")
        return _Penalised(Distill.objective(self, student, teacher, context), penalty, self.strength)


class _Penalised(Objective):
    def __init__(self, base: Objective, penalty: Callable[[], Tensor], strength: float | Ramp) -> None:
        super().__init__()
        self.base, self._penalty, self._strength = base, penalty, strength

    def forward(self, logits: Tensor, batch: Batch) -> Tensor:
        self.base.progress = self.progress
        loss: Tensor = self.base(logits, batch)
        return loss + value_at(self._strength, self.progress) * self._penalty()

    def close(self) -> None:
        self.base.close()


def _on(graph: ModelGraph, axes: set[str]) -> set[str]:
    """Parameters with a dimension on one of the axes."""
    return {entry.parameter for entry in graph.parameter_dims for segment in entry.segments for i in segment if graph.axes[i].name in axes}


def _group_lasso(model: nn.Module, graph: ModelGraph, axes: set[str]) -> Callable[[], Tensor] | None:
    found = {name: weight for name, weight in weights(model, graph).items() if name in _on(graph, axes)}
    counts = {
        name: torch.stack(parts).sum(0) for name, parts in summed(graph, {n: torch.ones_like(w) for n, w in found.items()}).items() if name in axes and parts
    }
    if not counts:
        return None

    def penalty() -> Tensor:
        squares = summed(graph, {name: weight.square() for name, weight in found.items()})
        # A root has no slope at zero; what is that small counts as zero.
        return torch.stack([(count * (torch.stack(squares[name]).sum(0) + 1e-12)).sqrt().sum() for name, count in counts.items()]).sum()

    return penalty


def _l1(model: nn.Module, graph: ModelGraph, axes: set[str]) -> Callable[[], Tensor] | None:
    found = [weight for name, weight in weights(model, graph).items() if name in _on(graph, axes)]
    return (lambda: torch.stack([weight.abs().sum() for weight in found]).sum()) if found else None


def _bn_scale(model: nn.Module, graph: ModelGraph, axes: set[str]) -> Callable[[], Tensor] | None:
    modules = dict(model.named_modules())
    norms = [modules[name.rpartition(".")[0]] for name in weights(model, graph) if name in _on(graph, axes)]
    scales = [norm.weight for norm in norms if isinstance(norm, _BatchNorm)]
    return (lambda: torch.stack([scale.abs().sum() for scale in scales]).sum()) if scales else None


_PENALTIES = {"group_lasso": _group_lasso, "l1": _l1, "bn_scale": _bn_scale}
