"""Chance: what every other criterion has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
from torch import nn

from compressors.context import Batch
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.criteria.criterion import Criterion, Loss, UnitScores

__all__ = ["Random"]


class Random(Criterion):
    """Uniform numbers in [0, 1), drawn from the axis's name: the same in every run."""

    name: ClassVar[str] = "random"

    def score(self, model: nn.Module, graph: ModelGraph, batches: Iterable[Batch], loss: Loss | None) -> UnitScores:  # noqa: ARG002  (names alone)
        """See ``Criterion``."""
        return {axis.name: np.random.default_rng(_seed(axis.name)).random(axis.size) for axis in graph.prunable}


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
