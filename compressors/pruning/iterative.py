"""Pruning in rounds with recovery after each: iterative as in [Han2015]_, gradual as in [Zhu2018]_, and one-shot as the case of a single round.

.. [Han2015] Han et al., Learning both Weights and Connections for Efficient Neural Networks, NeurIPS 2015.
.. [Zhu2018] Zhu and Gupta, To prune, or not to prune: exploring the efficacy of pruning for model compression, ICLR workshop 2018.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import accumulate
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pydantic
from numpy.typing import NDArray
from torch import nn

from compressors.compressor import STEP_CONFIG, GraphEdit, Patterns, Scores
from compressors.context import Context, TrainingData
from compressors.distillation import Distill
from compressors.errors import CompressionError, near_miss
from compressors.graph.model_graph import ModelGraph
from compressors.pruning.current import most_important, widths_to_cut
from compressors.pruning.prune import Prune
from compressors.teacher_spec import TeacherSpec
from compressors.training import TrainingSpec

__all__ = ["Pace", "PruneIteratively", "width_after"]

Pace = Literal["equal", "geometric", "cubic"]


def width_after(pace: Pace, start: int, final: int, progress: float) -> int:
    """Units of an axis after the fraction ``progress`` of all rounds, from ``start`` at 0 to ``final`` at 1."""
    if pace == "geometric":
        width = start * (final / start) ** progress
    elif pace == "cubic":
        width = final + (start - final) * (1 - progress) ** 3
    else:
        width = start - (start - final) * progress
    return int(np.floor(width + 0.5))


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class PruneIteratively(Prune):
    """Prune in rounds, each followed by its share of the recovery.

    The plan fixes how many units every axis has in the end; which ones they are is decided from round to round, by scores of the model as it then is. The
    number of training steps is that of ``recover`` whatever ``rounds`` is, so that schedules compare at the same cost.

    Attributes:
        recover: the training of all rounds together, configured as a ``distill`` step: on labels, on the outputs of the uncompressed model, or on both. Its
            schedule of the learning rate runs once a round.
        rounds: how often units are removed; 1 is one-shot.
        pace: ``equal`` removes as many units in every round, ``geometric`` the same fraction of those that are left, ``cubic`` most of them early [Zhu2018]_.
        decay: factor on the learning rate from one round to the next, in (0, 1].
        frozen: patterns of parameters and modules whose parameters recovery leaves as they are; statistics of batch norms still follow the data.
        max_drop: how much worse than the uncompressed model's the main metric, in its own unit, may be after a round, on the examples that progress is
            shown for; beyond it the round is undone and was the last one. None is no limit.
        criterion, ratio, threshold, layers, scope, round_to, min_units: see ``Prune``; widths between rounds need not be multiples of ``round_to``.
    """

    name: ClassVar[str] = "prune_iteratively"
    version: ClassVar[int] = 2
    stochastic: ClassVar[bool] = True

    recover: Distill
    rounds: Annotated[int, pydantic.Field(ge=1)] = 4
    pace: Pace = "equal"
    decay: Annotated[float, pydantic.Field(gt=0, le=1)] = 1.0
    frozen: Patterns = ()
    max_drop: Annotated[float, pydantic.Field(ge=0)] | None = None

    @pydantic.model_validator(mode="after")
    def _a_step_each(self) -> Self:
        if self.recover.steps is not None and self.recover.steps < self.rounds:
            raise ValueError(f"{self.recover.steps} steps of recovery are too few for {self.rounds} rounds; accepted: at least one each")
        return self

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """See ``Compressor.problems``."""
        yield from Prune.problems(self, graph)
        yield from (("frozen", message) for message in self._frozen_problems(graph))
        yield from ((f"recover.{key}", message) for key, message in self.recover.problems(graph))

    def teachers(self) -> tuple[TeacherSpec, ...]:
        """See ``Compressor.teachers``."""
        return self.recover.teachers()

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:
        """Choose the widths; the units stand for as many others. See ``Compressor.plan``."""
        problems = list(self._frozen_problems(graph))
        if problems:
            raise CompressionError(f"{self.name}: {'; '.join(problems)}")
        return Prune.plan(self, graph, scores, edit)

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """The model of the last round that was not undone; what it has kept is in its structure. See ``Compressor.apply``."""
        data, teacher = context.data, context.teacher
        if data is None or (teacher is None and self.max_drop is not None):
            raise CompressionError(f"{self.name} needs {'training data; pass data' if data is None else 'a teacher to compare with'}")
        lengths = self._lengths(data)
        starts = list(accumulate((-(-n // data.steps("train", batch_size=self.recover.batch_size)) for n in lengths), initial=0))
        widths = widths_to_cut(model, context.graph, edit)
        baseline = context.baseline_score() if self.max_drop is not None else 0.0
        current = copy.deepcopy(model)
        for i, steps in enumerate(lengths):
            kept = self._kept(current, widths, edit, (i + 1) / self.rounds, context)
            smaller = self.cut(current, edit.cut(kept), context)
            context.log(f"{self.name}: round {i + 1} of {self.rounds}: {sum(p.numel() for p in smaller.parameters()):,} parameters")
            training = replace(self.recover, epochs=None, steps=steps, learning_rate=self.recover.learning_rate * self.decay**i)
            # Each round goes on where the order of examples, and their variants, of the last one ended.
            smaller = self._recovered(smaller, training, edit, replace(context, seed=context.seed + starts[i], first_view=starts[i]))
            if self.max_drop is not None:
                metric, value = data.score(smaller, "search")
                drop = (baseline - value) * (1 if data.higher_is_better else -1)
                if not drop <= self.max_drop:
                    reason = f"{metric} {value:.4f} is {drop:.4f} worse than {baseline:.4f}, max_drop is {self.max_drop}"
                    context.log(f"{self.name}: round {i + 1} is undone and was the last one: {reason}")
                    break
            current = smaller
        return current

    def _lengths(self, data: TrainingData) -> list[int]:
        """Training steps of each round."""
        total = TrainingSpec(epochs=self.recover.epochs, steps=self.recover.steps, batch_size=self.recover.batch_size).total_steps(data)
        if total < self.rounds:
            raise CompressionError(f"{self.name}: {total} steps of recovery are too few for {self.rounds} rounds; accepted: at least one each")
        return [total * (i + 1) // self.rounds - total * i // self.rounds for i in range(self.rounds)]

    def _kept(self, model: nn.Module, widths: dict[str, int], edit: GraphEdit, progress: float, context: Context) -> dict[str, NDArray[np.int64]]:
        """The most important units of the model as it is, as many as are due."""
        due = {name: width_after(self.pace, start, len(edit.kept[name]), progress) for name, start in widths.items()}
        return most_important(model, due, self.criterion, context)

    def _recovered(self, model: nn.Module, training: Distill, edit: GraphEdit, context: Context) -> nn.Module:
        """A trained copy; only what was trainable is trainable again, whatever was frozen meanwhile."""
        trainable = {name: parameter for name, parameter in model.named_parameters(remove_duplicate=False) if parameter.requires_grad}
        for name, parameter in trainable.items():
            if _is_frozen(name, self.frozen):
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in trainable.values()):
            raise CompressionError(f"{self.name}: frozen: {list(self.frozen)} leave nothing to train")
        trained = training.apply(model, edit, context)
        for name, parameter in trained.named_parameters():
            parameter.requires_grad_(name in trainable)
        return trained

    def _frozen_problems(self, graph: ModelGraph) -> Iterator[str]:
        names = {name for tensor in graph.tensors if tensor.role == "parameter" for name in _prefixes(tensor.name)} if self.frozen else set()
        for pattern in self.frozen:
            if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                yield f"{pattern!r} matches no parameter{near_miss(pattern, sorted(names))}"


def _prefixes(parameter: str) -> Iterable[str]:
    """A parameter's name, and those of the modules that it lies in."""
    parts = parameter.split(".")
    return (".".join(parts[: i + 1]) for i in range(len(parts)))


def _is_frozen(parameter: str, patterns: Patterns) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in _prefixes(parameter) for pattern in patterns)
