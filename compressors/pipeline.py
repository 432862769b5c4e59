"""``compress``: one recipe applied to one model, without an experiment."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from compressors.checkpoint import follow_mode
from compressors.compressor import GraphEdit, Scores
from compressors.context import Context, SizableData, TrainingData
from compressors.errors import UserError
from compressors.graph import ModelGraph, trace
from compressors.recipe import Recipe, fingerprint
from compressors.scoring import scores_of
from compressors.targets import target_named

__all__ = ["applied", "compress", "step_seed"]


def _discard(line: str) -> None:
    """The default log: nowhere."""


def compress(
    model: nn.Module,
    recipe: Recipe | Sequence[Mapping[str, Any]],
    example_inputs: Sequence[Tensor] | Mapping[str, Tensor],
    data: TrainingData | None = None,
    *,
    target: str = "onnxruntime",
    seed: int = 0,
    log: Callable[[str], None] = _discard,
) -> nn.Module:
    """A compressed copy of ``model``, in train or eval mode as the model is; the model itself is left as it was.

    What was quantized is in eval mode: an exported graph has no other.

    Args:
        model: any uncompressed module that ``torch.export`` accepts.
        recipe: a recipe, or its plain list of steps.
        example_inputs: the inputs of one forward pass, by position or by keyword.
        data: examples and loss; needed by distillation, static quantization and the criteria that measure gradients.
        target: the runtime whose numerics a quantize step takes.
        seed: every step's seed derives from it.
        log: receives one plain line at a time.

    Raises:
        UserError: the model cannot be traced, or was compressed before; the recipe is invalid, names what the model does not have, or needs data where there
            is none.
        TrialError: the recipe cannot be applied, training diverges, or memory does not suffice.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_plain(recipe)
    if getattr(model, "compareto_structure", None) is not None:
        raise UserError("the model has been compressed before; put all steps into one recipe, and apply it to the uncompressed model")
    graph = trace(model, example_inputs)
    problems = list(_problems(recipe, graph, data))
    if problems:
        raise UserError("\n".join(problems))
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    scores = {name: scores_of(model, graph, name, data, target_named(target)) for name in recipe.criteria()}
    inputs = dict(example_inputs) if isinstance(example_inputs, Mapping) else _named(model, example_inputs)
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    context = Context(data, teacher, graph, inputs, target_named(target), device=device, log=log)
    context = _at_size(recipe, context)
    return follow_mode(applied(recipe, model, scores, context, seed), model)


def applied(recipe: Recipe, model: nn.Module, scores: Scores, context: Context, seed: int = 0) -> nn.Module:
    """A compressed copy of a model that is traced already: ``context.graph``; see ``compress``."""
    smaller = copy.deepcopy(model)
    # What cannot be planned is said before anything is trained.
    recipe.plan(context.graph, scores)
    edit = GraphEdit.identity(context.graph)
    for i, step in enumerate(recipe.steps):
        edit = step.plan(context.graph, scores, edit)
        smaller = step.apply(smaller, edit, dataclasses.replace(context, seed=step_seed(seed, recipe, i)))
        edit = edit.as_made(getattr(smaller, "compareto_structure", None))
    for step in recipe.steps:
        smaller = step.settle(smaller)
    return smaller


def _at_size(recipe: Recipe, context: Context) -> Context:
    """The surroundings at the size of inputs that the recipe asks for.

    Raises:
        UserError: data that cannot be made smaller.
        CompressionError: a size that the model does not take.
    """
    step, data, teacher = recipe.input_size, context.data, context.teacher
    assert teacher is not None
    trailing = 0 if data is None else getattr(data, "trailing_tokens", 0)
    sizing = None if step is None else step.sizing(context.example_inputs, trailing=trailing)
    if step is None or sizing is None:
        return context
    smaller: TrainingData | None = data
    if data is not None and sizing.how != "informative":
        if not isinstance(data, SizableData):
            raise UserError("input_size: the data has inputs of one size; accepted: data with a method at(sizing), as the tasks of experiments have")
        smaller = data.at(sizing)
    original = step.resized(teacher, sizing).eval()
    inputs = {name: torch.from_numpy(value) for name, value in sizing.of({k: v.cpu().numpy() for k, v in context.example_inputs.items()}).items()}
    inputs = {name: value.to(context.device) for name, value in inputs.items()}
    return dataclasses.replace(
        context,
        data=smaller,
        graph=step.trace(original, inputs, context.graph),
        example_inputs=inputs,
        baseline=None if data is None else partial(_score, data, teacher),
        sizing=sizing,
        native_inputs=context.example_inputs,
        original=original,
    )


def _score(data: TrainingData, model: nn.Module) -> float:
    return data.score(model, "search")[1]


def _named(model: nn.Module, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    bound = inspect.signature(model.forward).bind(*inputs).arguments
    if not all(isinstance(value, Tensor) for value in bound.values()):
        raise UserError(f"{type(model).__name__}.forward takes its inputs as *args; give them names, by which compressed models are called")
    return bound


def step_seed(seed: int, recipe: Recipe, step: int) -> int:
    """The seed of one step: it depends on what is computed up to and including that step, in [0, 2**31)."""
    return int(fingerprint([seed, Recipe(recipe.steps[: step + 1]).fingerprint])[:8], 16) & 0x7FFFFFFF


def _problems(recipe: Recipe, graph: ModelGraph, data: TrainingData | None) -> Any:
    for i, step in enumerate(recipe.steps):
        yield from (f"recipe[{i}].{step.name}.{key}: {message}" for key, message in step.problems(graph))
        if step.stochastic and data is None:
            yield f"recipe[{i}].{step.name}: reads training data; pass data= with batches, steps, loss and score"
