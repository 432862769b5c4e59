"""Early exits: classifiers behind some of the model's blocks, so that inputs on which they are sure need not run the rest [Teerapittayanon2016]_.

The exits learn from the model's own final outputs while it is trained on (self-distillation, [Zhang2019]_, [Phuong2019]_). An input leaves at the first exit
whose largest probability reaches the threshold. Quality, the share of inputs that reach each stage, and what an inference then costs on average are
observed, not predicted.

.. [Teerapittayanon2016] Teerapittayanon et al., BranchyNet: Fast Inference via Early Exiting from Deep Neural Networks, ICPR 2016.
.. [Zhang2019] Zhang et al., Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self Distillation, ICCV 2019.
.. [Phuong2019] Phuong and Lampert, Distillation-Based Training for Multi-Exit Architectures, ICCV 2019.
"""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

import pydantic
import torch
from torch import Tensor, nn

from compressors.compressor import STEP_CONFIG, Compressor, GraphEdit, Scores
from compressors.context import Batch, Context, TrainingData, logits_of
from compressors.distillation import soft_loss
from compressors.errors import CompressionError, near_miss
from compressors.graph.exit_heads import ExitHeads, attach_exits, exit_widths, exits_in
from compressors.graph.exits import EXITS, READABLE, Exits, Pool, blocks_of, classes_of, exit_points, unreadable
from compressors.graph.model_graph import ModelGraph
from compressors.graph.surgery import note
from compressors.training import Schedule, TrainingSpec, train

__all__ = ["EarlyExit", "told_no_classes"]

_PositiveInt = Annotated[int, pydantic.Field(gt=0)]
_Positive = Annotated[float, pydantic.Field(gt=0)]
_Place = Annotated[str, pydantic.Field(min_length=1, strict=True)] | Annotated[float, pydantic.Field(gt=0, lt=1)]
_NO_CLASSES = ("multi-label", "regression")
"""Kinds of outputs ``[examples, ...]`` that are no logits of one distribution."""


@pydantic.dataclasses.dataclass(frozen=True, slots=True, kw_only=True, config=STEP_CONFIG)
class EarlyExit(Compressor):
    """Add exits and train them; only ``quantize`` may follow.

    The loss is the mean over exits of ``alpha * soft + (1 - alpha) * hard``, soft against the model's own final outputs; where the whole model is trained,
    the same is added for these, soft against the uncompressed model.

    Attributes:
        after: blocks to exit after: names or patterns of modules, or fractions of depth (of all arithmetic) in (0, 1), which are the nearest block.
        threshold: the largest probability from which on an exit is trusted, in [0, 1]. Another one needs no training.
        pool: how an exit reads a block's output: the mean over tokens, pixels or time, or the first token.
        hidden: width of a hidden layer in each exit; None has none.
        train: ``all`` of the model, or the ``exits`` alone, which leaves the final outputs as they are.
        epochs, steps: length; give one.
        temperature: softens both distributions.
        alpha: weight of the soft losses, in [0, 1].
        learning_rate, schedule, optimizer, weight_decay, batch_size, clip: see ``TrainingSpec``.
    """

    name: ClassVar[str] = "early_exit"
    stochastic: ClassVar[bool] = True
    resumable: ClassVar[bool] = True
    late: ClassVar[frozenset[str]] = frozenset({"threshold"})

    after: Annotated[tuple[_Place, ...], pydantic.Field(min_length=1), pydantic.BeforeValidator(lambda v: (v,) if isinstance(v, str | float) else v)]
    threshold: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.8
    pool: Pool = "mean"
    hidden: _PositiveInt | None = None
    train: Literal["all", "exits"] = "all"
    epochs: _PositiveInt | None = None
    steps: _PositiveInt | None = None
    temperature: _Positive = 2.0
    alpha: Annotated[float, pydantic.Field(ge=0, le=1)] = 0.7
    learning_rate: _Positive = 1e-3
    schedule: Schedule = "cosine"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, pydantic.Field(ge=0)] = 0.0
    batch_size: _PositiveInt | None = None
    clip: _Positive | None = 1.0

    @pydantic.model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        return self

    def problems(self, graph: ModelGraph) -> Iterator[tuple[str, str]]:
        """See ``Compressor.problems``."""
        # Not super(), which the class that slots make does not know.
        yield from Compressor.problems(self, graph)
        if why := _without_classes(graph):
            yield "after", why
            return
        points, blocks, others = exit_points(graph), blocks_of(graph), unreadable(graph)
        for place in self.after:
            if isinstance(place, str) and not any(fnmatch.fnmatchcase(name, place) for name in points):
                if found := [name for name in others if fnmatch.fnmatchcase(name, place)]:
                    yield "after", f"{found[0]} returns {others[found[0]]}; accepted: {READABLE}"
                else:
                    yield "after", f"{place!r} is no block that the model could exit after; such as: {', '.join(list(blocks)[:6])}{near_miss(place, points)}"
            elif not isinstance(place, str) and not blocks:
                numbered = next((f" ({name} returns {shape})" for name, shape in others.items() if name.rpartition(".")[2].isdigit()), "")
                what = f"the model has no numbered blocks that a depth of {place} could stand for{numbered}"
                yield "after", f"{what}; accepted: names of modules, each {READABLE}"

    def plan(self, graph: ModelGraph, scores: Scores, edit: GraphEdit) -> GraphEdit:  # noqa: ARG002 - needs no scores
        """Find the blocks; those that an earlier step has dropped have no exit. See ``Compressor.plan``."""
        if edit.exits is not None:
            raise CompressionError("early_exit: the model has exits already; accepted: one early_exit, with all places under after")
        if why := _without_classes(graph):
            raise CompressionError(f"early_exit: {why}")
        points, blocks = exit_points(graph), blocks_of(graph)
        there = set(edit.present(graph, points)) - set(edit.dropped(graph))
        chosen: set[str] = set()
        for place in self.after:
            if isinstance(place, str):
                matched = [name for name in points if fnmatch.fnmatchcase(name, place)]
                chosen |= {name for name in matched if not any(name.startswith(f"{other}.") for other in matched)}
            elif left := [name for name in blocks if name in there]:
                chosen.add(min(left, key=lambda name: abs(blocks[name] - place)))
        # Two names may mean one tensor, such as a container and its last block.
        exits = {points[name]: name for name in reversed(points) if name in chosen & there}
        if not exits:
            raise CompressionError(f"early_exit: none of {', '.join(map(str, self.after))} is a block that is there")
        return replace(edit, exits=Exits(tuple(exits[tensor] for tensor in sorted(exits)), self.pool, self.hidden))

    def apply(self, model: nn.Module, edit: GraphEdit, context: Context) -> nn.Module:
        """A trained copy with exits. See ``Compressor.apply``."""
        if context.data is None:
            raise CompressionError("early_exit needs training data; pass data")
        if why := told_no_classes(context.data):
            raise CompressionError(f"early_exit: {why}")
        assert edit.exits is not None, "plan has set them"
        staged = copy.deepcopy(model)
        if exits_in(staged) is None:
            # A part of the training that goes on has them.
            self._attach(staged, edit.exits, context)
        heads = staged.get_submodule(EXITS)
        assert isinstance(heads, ExitHeads)
        if self.train == "exits":
            heads.alone = True
            staged.requires_grad_(requires_grad=False)
            heads.requires_grad_(requires_grad=True)
        spec = TrainingSpec(
            epochs=self.epochs,
            steps=self.steps,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            clip=self.clip,
        )
        trained = train(
            staged,
            context.data,
            spec,
            loss=self._loss(context.data, context),
            seed=context.seed,
            budget=context.budget,
            device=context.device,
            log=context.log,
            prefix=f"exits after {', '.join(edit.exits.after)}: ",
            begun=context.begun,
            keep=context.keep,
        )
        if self.train == "exits":
            heads.alone = False
            trained.requires_grad_(requires_grad=True)
        return trained

    def settle(self, model: nn.Module) -> nn.Module:
        """Set the threshold."""
        structure = model.compareto_structure
        model.compareto_structure = {**structure, "exits": {**structure["exits"], "threshold": self.threshold}}  # type: ignore[assignment, dict-item, index]
        return model

    def _attach(self, model: nn.Module, exits: Exits, context: Context) -> None:
        model.to(context.device).eval()
        inputs = {name: value.to(context.device) for name, value in context.example_inputs.items()}
        heads, classes = exit_widths(model, context.graph, exits.after, inputs)
        described = {**exits.to_plain(), "heads": [list(head) for head in heads], "classes": classes}
        with torch.random.fork_rng():
            torch.manual_seed(context.seed)
            attach_exits(model, described)
        note(model, context.graph, exits=described)

    def _loss(self, data: TrainingData, context: Context) -> Callable[[Tensor, Batch], Tensor]:
        teacher = context.teacher if self.train == "all" and self.alpha > 0 else None
        if teacher is not None:
            teacher.eval().to(context.device)

        def one(logits: Tensor, target: Tensor | None, batch: Batch) -> Tensor:
            total = (1 - self.alpha if target is not None else 1.0) * data.loss(logits, batch)
            return total if target is None else total + self.alpha * soft_loss(logits, target, batch.labels, self.temperature)

        def loss(logits: Tensor, batch: Batch) -> Tensor:
            final = logits[:, -1]
            exits = [one(logits[:, i], final.detach(), batch) for i in range(logits.shape[1] - 1)]
            total = torch.stack(exits).mean()
            if self.train == "exits":
                return total
            target = None
            if teacher is not None:
                with torch.no_grad():
                    target = logits_of(teacher(**batch.teacher_inputs))
            return total + one(final, target, batch)

        return loss


def told_no_classes(data: object) -> str | None:
    """Why outputs for this data have no largest probability that an exit could go by; None where they have, or the data does not tell."""
    kind = getattr(getattr(data, "head", None), "kind", None)
    if kind not in _NO_CLASSES:
        return None
    accepted = "a task of one class an example (image-, text-, series- or audio-classification, or one of your own)"
    return f"the outputs of {getattr(data, 'name', None) or kind} are no classes, one of which an exit could be sure of; accepted: {accepted}"


def _without_classes(graph: ModelGraph) -> str | None:
    classes = classes_of(graph)
    if classes is None:
        return "the model's outputs are not [examples, classes]; accepted: a classifier"
    return "the model's outputs are [examples, 1], of which every exit would be sure; accepted: a classifier of at least two classes" if classes < 2 else None
