"""First-order Taylor expansion of the loss [Molchanov2019]_."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from compressors.context import Batch, logits_of
from compressors.errors import DivergedError
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.criteria.criterion import Criterion, Loss, UnitScores, accumulate, weights

__all__ = ["Taylor"]


class Taylor(Criterion):
    """First-order change of the loss if a weight were zero, ``|gradient * weight|``, summed over the weights of a unit.

    Averaged over calibration batches and over the parameters that the unit is part of. Batch norm uses its running statistics.
    Absolute values are taken before the sum: on a converged model the signed sum over a unit is mostly noise.

    .. [Molchanov2019] Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019.
    """

    name: ClassVar[str] = "taylor"
    needs_data: ClassVar[bool] = True
    needs_loss: ClassVar[bool] = True

    def score(self, model: nn.Module, graph: ModelGraph, batches: Iterable[Batch], loss: Loss | None) -> UnitScores:
        """See ``Criterion``."""
        if loss is None:
            raise ValueError("the taylor criterion needs a loss")
        modes = [(module, module.training) for module in model.modules()]
        # Frozen weights are scored too, and stay frozen.
        flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        chosen = weights(model, graph)
        totals: dict[str, np.ndarray] = {}
        count = 0
        device = next(model.parameters()).device
        try:
            model.eval()
            for parameter in chosen.values():
                parameter.requires_grad_(True)
            for batch in batches:
                batch = batch.to(device)
                value = loss(logits_of(model(**batch.inputs)), batch)
                if not torch.isfinite(value):
                    raise DivergedError(f"the loss on calibration batch {count} is {float(value.detach())}")
                gradients = torch.autograd.grad(value, list(chosen.values()), allow_unused=True)
                products: dict[str, Tensor] = {
                    name: (weight.detach() * gradient).abs() for (name, weight), gradient in zip(chosen.items(), gradients, strict=True) if gradient is not None
                }
                for axis, scores in accumulate(graph, products).items():
                    totals[axis] = totals[axis] + scores if axis in totals else scores
                count += 1
        finally:
            for module, training in modes:
                module.training = training
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
        if not count:
            raise ValueError("the taylor criterion needs at least one calibration batch")
        return {axis: scores / count for axis, scores in totals.items()}
