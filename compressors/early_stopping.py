"""Early stopping on examples that are held out of the training split [Prechelt1998]_.

.. [Prechelt1998] Prechelt, Early Stopping - But When?, Neural Networks: Tricks of the Trade 1998.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from compressors.accelerated import counted
from compressors.context import TrainingData, logits_of
from compressors.errors import DivergedError
from compressors.stream import Stream
from compressors.training_spec import EarlyStop

__all__ = ["Stopping"]

_BEST, _CURRENT = "best.", "current."


class Stopping:
    """Watches a training.

    Args:
        spec: when to stop.
        data: whose loss is watched.
        stream: has the examples that are held out.
        per_epoch: steps of an epoch.
        device: of the model.
    """

    def __init__(self, spec: EarlyStop, data: TrainingData, stream: Stream, per_epoch: int, device: torch.device) -> None:
        self._spec, self._data, self._stream, self._device = spec, data, stream, device
        self._every = spec.every or per_epoch
        self._best: dict[str, Tensor] = {}
        self._lowest, self._waited = float("inf"), 0

    def due(self, step: int) -> bool:
        """Whether to check after so many steps."""
        return step % self._every == 0

    def check(self, model: nn.Module) -> tuple[bool, float]:
        """Whether the training ends here, and the loss on what is held out. Leaves the model in train mode.

        Raises:
            DivergedError: the loss is not finite, and never was.
        """
        value = self._loss(model)
        if not self._best and not math.isfinite(value):
            raise DivergedError(f"the loss on the examples that early_stop holds out is {value} at the first check; lower the learning rate")
        if value < self._lowest:
            self._lowest, self._waited = value, 0
            self._best = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        else:
            self._waited += 1
        return self.over, value

    @property
    def over(self) -> bool:
        """Whether patience is exhausted."""
        return self._waited >= self._spec.patience

    def settle(self, model: nn.Module) -> None:
        """Put the best weights into the model; what was trained since the last check counts as well where that is better."""
        if not self.over:
            self.check(model)
        model.load_state_dict(self._best)

    def state(self, model: nn.Module) -> dict[str, Tensor]:
        """What going on takes; to be asked for before ``settle``."""
        found = {f"{_BEST}{name}": value.cpu().contiguous() for name, value in self._best.items()}
        found |= {f"{_CURRENT}{name}": value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
        return {**found, "stopping": torch.tensor([self._lowest, self._waited], dtype=torch.float64)}

    def go_on(self, model: nn.Module, begun: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` gave; the model gets the weights that it was last trained to."""
        self._lowest, self._waited = float(begun["stopping"][0]), int(begun["stopping"][1])
        self._best = {name: value.to(self._device) for name, value in _below(begun, _BEST)}
        model.load_state_dict(dict(_below(begun, _CURRENT)))

    def _loss(self, model: nn.Module) -> float:
        model.eval()
        total, count = 0.0, 0
        with torch.no_grad():
            for batch in self._stream.held():
                weight = counted(batch.labels)
                # A mean over no label is no number.
                if weight:
                    total += float(self._data.loss(logits_of(model(**batch.to(self._device).inputs)), batch.to(self._device))) * weight
                    count += weight
        model.train()
        return total / max(1, count)


def _below(state: Mapping[str, Tensor], prefix: str) -> Iterator[tuple[str, Tensor]]:
    return ((name.removeprefix(prefix), value) for name, value in state.items() if name.startswith(prefix))
