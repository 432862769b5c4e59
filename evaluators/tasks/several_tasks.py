"""Several data sets for one model: trained on all of them, judged by each of them and by the average."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from compressors.context import Batch
from compressors.sizing import Sizing
from evaluators.metric import Estimate
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.intervals import average_interval, average_of_means
from evaluators.tasks.quality import AVERAGE, part_metric
from evaluators.tasks.task import Predict

__all__ = ["SeveralTasks", "interleaved"]


@dataclass
class SeveralTasks(ArrayTask):
    """Tasks of one kind with inputs of one form. ``arrays`` are those of all parts, each spread evenly: any stretch has of each part what is its share.

    The main metric is the unweighted mean of the parts' main metrics, as GLUE has it [Wang2018]; the others are each part's own, ``PART.METRIC``.

    Attributes:
        parts: by name, each with the splits that it is judged on; what a batch becomes, and the loss, are the first one's.
        part_classes: how many each part has of its own.
    """

    parts: Mapping[str, ArrayTask] = field(default_factory=dict)
    part_classes: Mapping[str, int] = field(default_factory=dict)

    @property
    def _first(self) -> ArrayTask:
        return next(iter(self.parts.values()))

    def prepare(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As every part's."""
        return self._first.prepare(inputs)

    @property
    def augments(self) -> bool:
        """As every part's."""
        return self._first.augments

    def augment(self, inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """As every part's."""
        return self._first.augment(inputs, generator)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """As every part's."""
        return self._first.loss(logits, batch)

    def soft_loss(self, student: Tensor, teacher: Tensor, batch: Batch, temperature: float) -> Tensor:
        """As every part's."""
        return self._first.soft_loss(student, teacher, batch, temperature)

    @property
    def counted_classes(self) -> str:
        """How many there are, and how many of them each part has."""
        return f"{self.classes} classes ({', '.join(f'{name} {count}' for name, count in self.part_classes.items())})"

    @property
    def nbytes(self) -> int:
        """What the parts are judged on is kept beside what is drawn from all of them."""
        return super().nbytes + sum(part.nbytes for part in self.parts.values())

    def at(self, sizing: Sizing) -> Self:
        """Every part at another size."""
        made = super().at(sizing)
        made.parts = {name: part.at(sizing) for name, part in self.parts.items()}
        return made

    def per_example(self, predict: Predict, split: str) -> dict[str, NDArray[Any]]:
        """For the average ``[examples of all parts]``, one part after the other (see ``average_of_means``); for each part's metrics ``[its examples]``."""
        return self._together({name: part.per_example(predict, split) for name, part in self.parts.items()})

    def of_outputs(self, outputs: NDArray[Any], split: str, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """See ``ArrayTask``; empty where a part has none of these examples, or a metric that is left out."""
        part_of, place = (each[rows] for each in interleaved([part.examples(split) for part in self.parts.values()]))
        own = {name: part_of == i for i, name in enumerate(self.parts)}
        if not all(mine.any() for mine in own.values()):
            return {}
        found = {name: part.of_outputs(outputs[own[name]], split, place[own[name]]) for name, part in self.parts.items()}
        return self._together(found) if all(m.name in found[name] for name, part in self.parts.items() for m in part.quality) else {}

    def _together(self, found: Mapping[str, Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        mains = [part.contributions(part.quality[0].name, found[name][part.quality[0].name]) for name, part in self.parts.items()]
        own = {part_metric(name, m.name): found[name][m.name] for name, part in self.parts.items() for m in part.quality}
        return {AVERAGE: average_of_means(mains), **own}

    def summarise(self, values: Mapping[str, NDArray[Any]]) -> dict[str, Estimate]:
        """Each part's own; the interval of the average is that of the mean of independent estimates."""
        mains: list[Estimate] = []
        found: dict[str, Estimate] = {}
        for name, part in self.parts.items():
            names = [m.name for m in part.quality]
            each = part.summarise({metric: values[part_metric(name, metric)] for metric in names})
            mains.append(each[names[0]])
            found |= {part_metric(name, metric): each[metric] for metric in names}
        spread, value = average_interval(mains), float(np.mean(values[AVERAGE], dtype=np.float64))
        return {AVERAGE: Estimate(value, value - (spread.value - spread.low), value + (spread.high - spread.value)), **found}

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        """Name and value of the average, of a few examples of each part."""
        return AVERAGE, float(np.mean([part.score(model, split)[1] for part in self.parts.values()]))


def interleaved(counts: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order of several lists' items in which each list is spread evenly: the list and the place in it, ``[items]`` each."""
    lists = np.repeat(np.arange(len(counts)), counts)
    places = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((places + 0.5) / np.asarray(counts)[lists], kind="stable")
    return lists[order], places[order]
