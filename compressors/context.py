"""What a compressor may know beside model and plan. Protocols only: compressors never import tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from compressors.graph.model_graph import ModelGraph
    from compressors.sizing import Sizing
    from compressors.targets.target import Target
    from compressors.teacher_outputs import OutputStore
    from compressors.teacher_spec import TeacherSpec

__all__ = ["Batch", "ComparingData", "Context", "IndexedData", "SizableData", "TrainingData", "logits_of"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Model inputs by keyword, each ``[examples, ...]``, and labels ``[examples, ...]`` (-100 is ignored).

    ``rows`` are the examples' numbers in their split and ``view`` says which variant of them it is, where the data knows that. ``native`` are the inputs before
    they were made smaller (``input_size``); None where they were not.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    rows: NDArray[np.int64] | None = None
    view: int | None = None
    native: dict[str, Tensor] | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on ``device``."""
        native = None if self.native is None else {k: v.to(device) for k, v in self.native.items()}
        return Batch({k: v.to(device) for k, v in self.inputs.items()}, self.labels.to(device), self.rows, self.view, native)

    @property
    def teacher_inputs(self) -> dict[str, Tensor]:
        """What a teacher sees, which was made for inputs of the native size."""
        return self.inputs if self.native is None else self.native


class TrainingData(Protocol):
    """What a task offers to compressors."""

    @property
    def higher_is_better(self) -> bool:
        """Of the main metric."""

    def batches(self, split: str, *, seed: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        """One pass over a split (``train``, ``calibration``, ``search`` or ``report``): shuffled by ``seed``, or in order where it is None."""

    def steps(self, split: str, *, batch_size: int | None = None) -> int:
        """How many batches ``batches`` yields."""

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean loss, a scalar."""

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        """Name and value of the task's main metric (quick, no interval); for progress lines."""


@runtime_checkable
class IndexedData(TrainingData, Protocol):
    """Data whose examples have numbers, from 0 in each split.

    Attributes:
        batch_size: of training, where nothing else is said.
        augments: whether training examples are changed at random.
    """

    batch_size: int

    @property
    def augments(self) -> bool:
        """See above."""

    def examples(self, split: str) -> int:
        """How many there are."""

    def take(self, split: str, rows: NDArray[np.int64], *, view: int | None = None) -> Batch:
        """These examples: as they are, or as variant ``view`` of the training data has them, the same at every call and in any company."""


@runtime_checkable
class SizableData(Protocol):
    """Data whose inputs can be made smaller."""

    def at(self, sizing: Sizing) -> TrainingData:
        """The same examples at another size, whose batches say what they were."""


@runtime_checkable
class ComparingData(Protocol):
    """Data whose outputs are no logits of one distribution: numbers, pictures, several labels at once."""

    def soft_loss(self, student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """How far the student's outputs are from the teacher's, a scalar: what distillation minimises in place of a divergence of distributions."""


def _discard(line: str) -> None:
    """The default log: nowhere."""


@dataclass(frozen=True)
class Context:
    """Surroundings of one ``apply``.

    Attributes:
        data: training data, or None where the caller has none.
        teacher: the uncompressed model in eval mode, never to be changed.
        graph: the trace of the uncompressed model.
        example_inputs: keyword inputs of one forward pass.
        target: the runtime whose numerics count.
        seed: seed of this stage.
        budget: fraction of the training schedule to run, in (0, 1]; the schedule is laid out for the whole.
        device: where to train.
        log: receives one plain line at a time.
        begun: what ``keep`` received when the same step ran on a smaller part of the budget; the model that it left then is the one to go on with. Only for
            steps that are ``resumable``.
        keep: receives what a resumable step needs to go on, beside the model that it leaves.
        teachers: makes a model, in eval mode, of what a step names as its teacher; None where there is no experiment whose folder it could be in.
        outputs: where the outputs of teachers are kept; None runs them beside the student.
        first_view: variant of the training data that the first epoch sees.
        baseline: the uncompressed model's main metric on ``search``, where somebody knows it; else it is measured.
        sizing: how the inputs were made smaller (``input_size``): ``data``, ``graph`` and ``example_inputs`` are of that size, ``teacher`` is not; None where
            they are as they come.
        native_inputs: ``example_inputs`` before that, which a teacher sees; None where they are the same.
        original: the uncompressed model for inputs of that size; None is ``teacher``.
    """

    data: TrainingData | None
    teacher: nn.Module | None
    graph: ModelGraph
    example_inputs: Mapping[str, Tensor]
    target: Target
    seed: int = 0
    budget: float = 1.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    log: Callable[[str], None] = _discard
    begun: Mapping[str, Tensor] | None = None
    keep: Callable[[dict[str, Tensor]], None] | None = None
    teachers: Callable[[TeacherSpec], nn.Module] | None = None
    outputs: OutputStore | None = None
    first_view: int = 0
    baseline: Callable[[], float] | None = None
    sizing: Sizing | None = None
    native_inputs: Mapping[str, Tensor] | None = None
    original: nn.Module | None = None

    @property
    def teacher_inputs(self) -> dict[str, Tensor]:
        """Keyword inputs of one forward pass of a teacher, on the training's device."""
        return {name: value.to(self.device) for name, value in (self.native_inputs or self.example_inputs).items()}

    def baseline_score(self) -> float:
        """The uncompressed model's main metric on ``search``; there are data and a teacher."""
        assert self.data is not None
        assert self.teacher is not None
        return self.baseline() if self.baseline is not None else self.data.score(self.teacher, "search")[1]


def logits_of(outputs: Any) -> Tensor:
    """The main tensor of whatever a model returns: itself, ``.logits``, ``["logits"]``, or the first element."""
    if isinstance(outputs, Tensor):
        return outputs
    logits = getattr(outputs, "logits", None)
    if logits is None and isinstance(outputs, Mapping):
        logits = outputs.get("logits", next(iter(outputs.values()), None))
    if logits is None and isinstance(outputs, (tuple, list)) and outputs:
        logits = outputs[0]
    if not isinstance(logits, Tensor):
        raise TypeError(f"a model must return a tensor, or an object with .logits; got {type(outputs).__name__}")
    return logits
