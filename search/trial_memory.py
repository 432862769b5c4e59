"""How much memory a trial takes, predicted from the traced graph before any has run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from search.preparing import Prepared

__all__ = ["TrialMemory", "trial_memory"]

_PROCESS_BYTES = 550_000_000
_CUDA_BYTES = 600_000_000
_FLOAT_BYTES = 4
_OPTIMIZER = 2


@dataclass(frozen=True, slots=True)
class TrialMemory:
    """Parts of a worker's memory at its peak, in bytes.

    Attributes:
        process: Python with torch, Ray and what quantizing imports, before any model.
        weights: of the uncompressed model, the one that is trained and its teacher.
        training: gradients, the optimizer's state, and what a batch's forward pass leaves for the backward one.
        evaluation: activations that exist at once.
        shared: data in the object store, which all workers of a machine map.
    """

    process: int
    weights: int
    training: int
    evaluation: int
    shared: int

    @property
    def own(self) -> int:
        """What one more worker on a machine takes."""
        return self.process + self.weights + max(self.training, self.evaluation)

    @property
    def gpu(self) -> int:
        """What one more worker takes of a GPU: the models and the training, and what CUDA itself needs."""
        return _CUDA_BYTES + self.weights + max(self.training, self.evaluation)


def trial_memory(prepared: Prepared) -> TrialMemory:
    """Of the largest trial of an experiment: the uncompressed widths, the largest batch of any step."""
    graph, task = prepared.graph, prepared.task
    widths = graph.baseline()
    weights = int(graph.count_parameters(widths)[0]) * _FLOAT_BYTES
    kept = sum(int(t.elements.evaluate(widths.widths)[0]) for t in graph.tensors if t.role == "activation" and t.floating and t.alias_of is None)
    # The trace is of the workload's batch and sizes; examples of the data may be larger.
    traced = max(t.numel() for t in task.example_inputs.values())
    example = max(a[0].size for split in task.arrays.values() for name, a in split.items() if name != "labels" and len(a))
    batch = max(_batch_sizes(prepared.experiment.recipe), default=task.batch_size)
    shared = task.nbytes
    training = weights * (1 + _OPTIMIZER) + kept * _FLOAT_BYTES * batch * example // traced
    evaluation = int(graph.activation_peak(widths)[0]) * _FLOAT_BYTES * task.evaluation_batch * example // traced
    return TrialMemory(_PROCESS_BYTES, 3 * weights, training, evaluation, shared)


def _batch_sizes(node: Any, key: str = "") -> Iterator[int]:
    """All numbers under ``batch_size`` in a recipe with ranges."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _batch_sizes(value, "batch_size" if key == "batch_size" else str(name))
    elif isinstance(node, list):
        for value in node:
            yield from _batch_sizes(value, key)
    elif key == "batch_size" and isinstance(node, int):
        yield node
