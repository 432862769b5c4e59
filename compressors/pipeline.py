"""``compress``: one recipe applied to one model, without an experiment."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from compressors.context import Context, TrainingData
from compressors.errors import UserError
from compressors.graph import ModelGraph, trace
from compressors.graph.patterns import unmatched_patterns
from compressors.pruning import CRITERIA, score
from compressors.recipe import Recipe, fingerprint
from compressors.targets import target_named

__all__ = ["compress", "step_seed"]


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
    """A compressed copy of ``model``, in eval mode; the model itself is left as it was.

    Args:
        model: any module that ``torch.export`` accepts.
        recipe: a recipe, or its plain list of steps.
        example_inputs: the inputs of one forward pass, by position or by keyword.
        data: examples and loss; needed by distillation, static quantization and the criteria that measure gradients.
        target: the runtime whose numerics a quantize step takes.
        seed: every step's seed derives from it.
        log: receives one plain line at a time.

    Raises:
        UserError: the recipe is invalid, names what the model does not have, or needs data where there is none.
        TrialError: the recipe cannot be applied, training diverges, or memory does not suffice.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.from_plain(recipe)
    graph = trace(model, example_inputs)
    problems = list(_problems(recipe, graph, data))
    if problems:
        raise UserError("\n".join(problems))
    teacher = copy.deepcopy(model).eval().requires_grad_(False)
    scores = {criterion: _score(model, graph, criterion, data) for criterion in recipe.criteria()}
    inputs = dict(example_inputs) if isinstance(example_inputs, Mapping) else dict(zip(graph.inputs, example_inputs, strict=True))
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    context = Context(data, teacher, graph, inputs, target_named(target), device=device, log=log)
    smaller = copy.deepcopy(model)
    for i, (step, edit) in enumerate(zip(recipe.steps, recipe.plan(graph, scores), strict=True)):
        smaller = step.apply(smaller, edit, dataclasses.replace(context, seed=step_seed(seed, recipe, i)))
    return smaller.eval()


def step_seed(seed: int, recipe: Recipe, step: int) -> int:
    """The seed of one step: it depends on what is computed up to and including that step, in [0, 2**31)."""
    return int(fingerprint([seed, Recipe(recipe.steps[: step + 1]).fingerprint])[:8], 16) & 0x7FFFFFFF


def _score(model: nn.Module, graph: ModelGraph, criterion: str, data: TrainingData | None) -> Any:
    if data is None or not CRITERIA[criterion].needs_data:
        return score(model, graph, criterion)
    return score(model, graph, criterion, data.batches("calibration"), data.loss)


def _problems(recipe: Recipe, graph: ModelGraph, data: TrainingData | None) -> Any:
    for i, step in enumerate(recipe.steps):
        for pattern, near in unmatched_patterns(graph, step.include, step.exclude):
            yield f"recipe[{i}].{step.name}: {pattern!r} matches nothing in the model{near}"
        if step.stochastic and data is None:
            yield f"recipe[{i}].{step.name}: reads training data; pass data= with batches, steps, loss and score"
