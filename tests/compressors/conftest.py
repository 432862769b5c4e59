from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from compressors.context import Batch, logits_of


@dataclass
class Points:
    """Points of the plane whose class is their quadrant."""

    examples: int = 256
    higher_is_better: bool = True

    def batches(self, split: str, *, seed: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(len(split))
        points = torch.randn(self.examples, 2, generator=generator)
        labels = (points[:, 0] > 0).long() + 2 * (points[:, 1] > 0).long()
        order = torch.arange(self.examples) if seed is None else torch.randperm(self.examples, generator=generator.manual_seed(seed))
        for rows in order.split(batch_size or 32):
            yield Batch({"x": points[rows]}, labels[rows])

    def steps(self, split: str, *, batch_size: int | None = None) -> int:
        return -(-self.examples // (batch_size or 32))

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(logits, batch.labels)

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        with torch.no_grad():
            right = [(logits_of(model(**b.inputs)).argmax(-1) == b.labels).float() for b in self.batches(split)]
        return "accuracy", float(torch.cat(right).mean())


class PointNet(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, width)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.norm(self.hidden(x))))
        return logits


@pytest.fixture
def points() -> Points:
    return Points()


@pytest.fixture
def point_net() -> Callable[..., nn.Module]:
    """Makes the same small network each time; ``width`` may be given."""

    def make(width: int = 16) -> nn.Module:
        torch.manual_seed(0)
        return PointNet(width).eval()

    return make
