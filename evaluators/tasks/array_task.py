"""A task whose examples lie in memory as arrays: what our three tasks have in common."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.context import Batch, logits_of
from compressors.errors import CompressionError, DivergedError
from compressors.graph.exit_heads import exits_in
from compressors.graph.exits import taken
from compressors.sizing import Sizing
from evaluators.metric import Estimate, Metric
from evaluators.tasks.heads import Classification, Head
from evaluators.tasks.intervals import interval_of
from evaluators.tasks.measures import Measure
from evaluators.tasks.task import Predict, Task

if TYPE_CHECKING:
    from compressors.input_size import InputSize

__all__ = ["ArrayTask", "module_predict"]

_PROGRESS_EXAMPLES = 512


def module_predict(model: nn.Module) -> Predict:
    """A torch module as a ``Predict``; evaluated in eval mode without gradients, its mode restored.

    Of a model with early exits the logits are those of the stage at which each example leaves, and ``stage`` ``[examples]`` says which that is.
    """

    def predict(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        training = model.training
        if training:
            model.eval()
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        try:
            with torch.no_grad():
                logits = logits_of(model(**{name: torch.from_numpy(value).to(device) for name, value in inputs.items()}))
        finally:
            if training:
                model.train()
        found = logits.float().cpu().numpy()
        exits = exits_in(model)
        if exits is None:
            return {"logits": found}
        chosen, stage = taken(found, exits.get("threshold"))
        return {"logits": chosen, "stage": stage}

    return predict


@dataclass
class ArrayTask(Task):
    """Examples as arrays.

    Attributes:
        arrays: per split, input name to ``[examples, ...]`` and ``labels``; images as uint8 ``[examples, channels, height, width]``.
        prepare: raw inputs of one batch to model inputs, such as normalisation.
        classes: number of classes (vocabulary for language models).
        label_names: for people; may be empty.
        description: what an artifact needs to prepare raw inputs itself (normalisation, sequence), plain data.
        batch_size: of training, where a step does not say.
        special_tokens: numbers of the tokenizer's special tokens; of tasks on texts.
        trailing_tokens: how many special tokens a text ends with.
        added_tokens: how many special tokens a text has.
        sizing: how inputs are made smaller once they are prepared (and augmented); None where they are not.
        head: what outputs mean, and the loss.
        measures: the metrics that were asked for, all but the loss; none is what ``judge`` finds.
    """

    arrays: dict[str, dict[str, NDArray[Any]]]
    fingerprint: str
    example_inputs: dict[str, Tensor]
    classes: int
    label_names: tuple[str, ...] = ()
    description: dict[str, Any] = field(default_factory=dict)
    evaluation_batch: int = 250
    batch_size: int = 64
    special_tokens: tuple[int, ...] = ()
    trailing_tokens: int = 0
    added_tokens: int = 0
    sizing: Sizing | None = None
    name: str = ""
    quality: tuple[Metric, ...] = ()
    head: Head = field(default_factory=Classification)
    measures: Mapping[str, Measure] = field(default_factory=dict)

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Raw arrays of a batch to model inputs."""
        return {name: np.ascontiguousarray(value) for name, value in inputs.items()}

    def augment(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:  # noqa: ARG002 - for subclasses
        """Random changes of training inputs."""
        return inputs

    def sizing_of(self, step: InputSize) -> Sizing | None:
        """What a step means for this data; None where it asks for the size that there is.

        Raises:
            CompressionError: a size that these inputs cannot have, or a task that has more to say of larger ones.
        """
        data = self.arrays["train"]
        if any(data["labels"].shape[1:] == value.shape[1:] for name, value in data.items() if name != "labels") or "decoder_input_ids" in data:
            told = "a smaller one would be asked less, and its quality could not be compared"
            raise CompressionError(f"input_size: {self.name} answers for each part of an input: {told}; accepted: tasks with one answer for an input")
        mask = data.get("attention_mask")
        if mask is not None and not mask[:, 0].all():
            raise CompressionError("input_size: texts are padded at their start; accepted: a tokenizer that pads at the end")
        inputs = {name: torch.from_numpy(value) for name, value in self.prepare(self.raw("train", 0, 1)[0]).items()}
        return step.sizing(inputs, trailing=self.trailing_tokens, fewest=self.added_tokens + 1)

    def at(self, sizing: Sizing) -> Self:
        """The same examples at another size; of the workload's inputs, those that are larger."""
        inputs = {name: torch.from_numpy(value) for name, value in sizing.of({k: v.numpy() for k, v in self.example_inputs.items()}).items()}
        key = hashlib.sha256(f"{self.fingerprint}{json.dumps(sizing.to_plain(), sort_keys=True)}".encode()).hexdigest()[:16]
        return dataclasses.replace(self, sizing=sizing, example_inputs=inputs, fingerprint=key)

    def model_inputs(self, raw: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Raw arrays of a batch to what the model takes: prepared, and made smaller."""
        prepared = self.prepare(raw)
        return prepared if self.sizing is None else self.sizing.of(prepared)

    def _batch(self, tensors: dict[str, Tensor], labels: NDArray[Any], rows: NDArray[np.int64] | None = None, view: int | None = None) -> Batch:
        if self.sizing is None:
            return Batch(tensors, torch.from_numpy(labels), rows, view)
        sized = self.sizing.of({name: value.numpy() for name, value in tensors.items()})
        return Batch({name: torch.from_numpy(value) for name, value in sized.items()}, torch.from_numpy(labels), rows, view, tensors)

    def raw(self, split: str, start: int = 0, stop: int | None = None) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
        """Inputs as stored, and labels, of a range of a split."""
        data = self.arrays[split]
        return {k: v[start:stop] for k, v in data.items() if k != "labels"}, data["labels"][start:stop]

    def batches(self, split: str, *, seed: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        """One pass over a split: shuffled and augmented by ``seed``, or in order where it is None."""
        data = self.arrays[split]
        size = batch_size or self.batch_size
        order = np.arange(len(data["labels"])) if seed is None else np.random.default_rng(seed).permutation(len(data["labels"]))
        generator = torch.Generator().manual_seed(seed or 0)
        for rows in np.split(order, range(size, size * self.steps(split, batch_size=size), size)):
            inputs = self.prepare({k: v[rows] for k, v in data.items() if k != "labels"})
            tensors = {k: torch.from_numpy(v) for k, v in inputs.items()}
            if seed is not None and split == "train":
                tensors = self.augment(tensors, generator)
            yield self._batch(tensors, data["labels"][rows])

    @property
    def nbytes(self) -> int:
        """Of the examples in memory."""
        return sum(value.nbytes for values in self.arrays.values() for value in values.values())

    @property
    def counted_classes(self) -> str:
        """How many there are, for messages."""
        return f"{self.classes} classes"

    @property
    def augments(self) -> bool:
        """Whether ``augment`` draws random numbers."""
        return False

    def examples(self, split: str) -> int:
        """How many a split has."""
        return len(self.arrays[split]["labels"])

    def take(self, split: str, rows: NDArray[np.int64], *, view: int | None = None) -> Batch:
        """Examples by their numbers: as they are, or as variant ``view`` of the training data has them, the same at every call and in any company."""
        data = self.arrays[split]
        tensors = {k: torch.from_numpy(v) for k, v in self.prepare({k: v[rows] for k, v in data.items() if k != "labels"}).items()}
        if view is not None and self.augments:
            # Drawn for each example on its own: what it becomes depends neither on the order nor on the batch.
            each = [self.augment({k: v[i : i + 1] for k, v in tensors.items()}, _generator(view, int(row))) for i, row in enumerate(rows)]
            tensors = {k: torch.cat([one[k] for one in each]) for k in tensors}
        elif view is not None:
            tensors = self.augment(tensors, torch.Generator())
        return self._batch(tensors, data["labels"][rows], rows, view)

    def steps(self, split: str, *, batch_size: int | None = None) -> int:
        """How many batches ``batches`` yields."""
        total, size = len(self.arrays[split]["labels"]), batch_size or self.batch_size
        # One example alone cannot train a batch norm: it joins the batch before.
        return -(-total // size) - (total > size > 1 and total % size == 1)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """That of the head; of classes the mean cross-entropy in nats, labels of -100 are ignored."""
        return self.head.loss(logits, batch.labels)

    def soft_loss(self, student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """How far a student's outputs are from a teacher's, a scalar; see ``Head``."""
        return self.head.soft_loss(student, teacher, batch.labels, temperature)

    def _evaluate(self, predict: Predict, split: str, judge: Callable[[Tensor, Tensor], dict[str, Tensor]]) -> dict[str, NDArray[Any]]:
        parts: dict[str, list[NDArray[Any]]] = {}
        for batch in self.batches(split, batch_size=self.evaluation_batch):
            logits = torch.from_numpy(np.asarray(predict({k: v.numpy() for k, v in batch.inputs.items()})["logits"]))
            if not torch.isfinite(logits).all():
                raise DivergedError(f"the model's outputs on {split} are not finite")
            for name, values in judge(logits.float(), batch.labels).items():
                parts.setdefault(name, []).append(values.numpy())
        return {name: np.concatenate(values) for name, values in parts.items()}

    def per_example(self, predict: Predict, split: str) -> dict[str, NDArray[Any]]:
        """For each metric, ``[examples]`` contributions in the split's order."""
        if not self.measures:
            return self._evaluate(predict, split, self.judge)
        found = self._evaluate(predict, split, lambda outputs, labels: {"outputs": outputs, "loss": self.head.losses(outputs, labels)})
        labels = self.arrays[split]["labels"]
        return {**{name: measure(found["outputs"], labels) for name, measure in self.measures.items()}, "loss": found["loss"]}

    def of_outputs(self, outputs: NDArray[Any], split: str, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """``per_example`` of outputs that there are, of these examples alone. Metrics that need more than one pass of a model are left out."""
        labels, logits = self.arrays[split]["labels"][rows], torch.from_numpy(np.asarray(outputs)).float()
        if not self.measures:
            return {name: values.numpy() for name, values in self.judge(logits, torch.from_numpy(labels)).items()}
        loss = self.head.losses(logits, torch.from_numpy(labels)).numpy()
        return {**{name: measure(logits.numpy(), labels) for name, measure in self.measures.items()}, "loss": loss}

    def judge(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Per example: the head's loss, and of classes whether the right one is found."""
        found = {"accuracy": (logits.argmax(-1) == labels).float()} if self.head.kind == "classification" else {}
        return {**found, "loss": self.head.losses(logits, labels)}

    def metrics(self, predict: Predict, split: str) -> dict[str, Estimate]:
        """Each metric's value with a 90 % interval. Outputs that are not finite raise ``DivergedError``."""
        return self.summarise(self.per_example(predict, split))

    def summarise(self, values: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
        """Estimates from ``per_example``'s values: every metric is their mean."""
        return {name: interval_of(found) for name, found in values.items()}

    def contributions(self, name: str, values: NDArray[Any]) -> NDArray[np.float64]:  # noqa: ARG002 - for subclasses
        """``per_example``'s values of a metric on the metric's own scale: their mean is the metric."""
        return np.asarray(values, dtype=np.float64)

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        """Name and value of the main metric on the split's first 512 examples."""
        name = self.quality[0].name
        few = dataclasses.replace(self, arrays={split: {k: v[:_PROGRESS_EXAMPLES] for k, v in self.arrays[split].items()}})
        return name, few.metrics(module_predict(model), split)[name].value


def _generator(view: int, row: int) -> torch.Generator:
    """Of one example of one variant; neighbours in a sequence of seeds would begin alike."""
    mixed = hashlib.sha256(f"{view}/{row}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(mixed[:8], "big") >> 1)
