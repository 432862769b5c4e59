"""The contract of a task: its data, its loss and its metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from evaluators.metric import Estimate, Metric

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compressors.context import Batch

__all__ = ["SPLITS", "Predict", "Task"]

SPLITS = ("train", "calibration", "search", "report")

Predict = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]
"""Keyword inputs as arrays to outputs as arrays (``logits``), so that a runtime is judged like a module."""


class Task(ABC):
    """Data with a loss and metrics. Satisfies ``compressors.context.TrainingData``.

    Attributes:
        name: such as ``text-classification``.
        quality: the metrics, the main one first.
        example_inputs: keyword inputs at the workload's sizes (batch included), for tracing.
        fingerprint: identifies data, splits and preprocessing.
        evaluation_batch: examples a forward pass evaluates at once.
    """

    name: str
    quality: tuple[Metric, ...]

    example_inputs: dict[str, Tensor]
    fingerprint: str
    evaluation_batch: int

    @property
    def higher_is_better(self) -> bool:
        """Of the main metric."""
        return self.quality[0].direction == "max"

    @abstractmethod
    def batches(self, split: str, *, seed: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        """One pass over a split: shuffled by ``seed``, or in order where it is None."""

    @abstractmethod
    def steps(self, split: str, *, batch_size: int | None = None) -> int:
        """How many batches ``batches`` yields."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean loss, a scalar; labels of -100 are ignored."""

    @abstractmethod
    def per_example(self, predict: Predict, split: str) -> dict[str, NDArray[Any]]:
        """For each metric, ``[examples]`` contributions in the split's order, so that two models can be compared paired."""

    @abstractmethod
    def metrics(self, predict: Predict, split: str) -> dict[str, Estimate]:
        """Each metric's value with a 90 % interval. NaN outputs raise ``DivergedError``."""

    @abstractmethod
    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        """Name and value of the main metric (quick, no interval)."""
