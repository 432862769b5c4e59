"""Model, task and trace of an experiment: what ``check`` and ``trace`` look at, without training anything."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from compressors.errors import TraceError, UserError
from compressors.graph import ModelGraph, generation_entries, trace
from compressors.targets.programs import context_tokens
from evaluators.devices.device_model import GENERATING
from evaluators.fit import require_smoothable
from evaluators.models import load_model
from evaluators.tasks import Workload, make_task
from evaluators.tasks.task import Task
from search.experiment import Experiment

__all__ = ["Loaded", "load_experiment"]

_NEW_TOKENS = 128
"""Where a workload does not say."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model as it was loaded (before any ``fit``), its task, and its trace at the workload's sizes."""

    model: nn.Module
    task: Task
    graph: ModelGraph


def load_experiment(experiment: Experiment) -> Loaded:
    """Load data and model, and trace the model.

    Raises:
        UserError: an asset that is not fetched; whatever is wrong with model or data.
    """
    missing = experiment.missing_assets()
    if missing:
        raise UserError("\n".join(f"{path}: asset not fetched, run make assets" for path in missing))
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    if experiment.fit is not None:
        require_smoothable(experiment.fit, task)
    model = load_model(experiment.model, experiment.folder, task)
    graph = _traced(model, task, experiment.workload)
    named = {name.partition("@")[0] for name in (*experiment.objectives, *(n for c in experiment.parsed_constraints for n in c.names))}
    if named & set(GENERATING) and "decode" not in graph.by_program:
        wanted = ", ".join(name for name in GENERATING if name in named)
        raise UserError(
            f"{wanted}: the decoding step of {type(model).__name__} cannot be traced; accepted: models of transformers that return a cache; "
            "latency_ms is of its forward pass"
        )
    return Loaded(model, task, graph)


def _traced(model: nn.Module, task: Task, workload: Workload) -> ModelGraph:
    """With the prompt and the decoding step of a language model, where these can be traced."""
    entries = {}
    if task.name == "causal-lm":
        prompt, new = _tokens(model, workload, task.example_inputs["input_ids"].shape[1])
        entries = generation_entries(model, task.example_inputs, prompt_tokens=prompt, new_tokens=new)
    try:
        return trace(model, task.example_inputs, programs=entries)
    except TraceError:
        if not entries:
            raise
        return trace(model, task.example_inputs)


def _tokens(model: nn.Module, workload: Workload, sequence: int) -> tuple[int, int]:
    """Of the prompt, and new ones."""
    prompt, longest = workload.prompt_tokens or sequence, context_tokens(model)
    if longest is None:
        return prompt, workload.new_tokens or _NEW_TOKENS
    asked = workload.prompt_tokens is not None or workload.new_tokens is not None
    if asked and prompt + (workload.new_tokens or 1) > longest:
        raise UserError(
            f"workload: {prompt} tokens of the prompt and {workload.new_tokens or 1} new ones; accepted: at most {longest} together, which the model can count"
        )
    return prompt, workload.new_tokens or max(min(_NEW_TOKENS, longest - prompt), 0)
