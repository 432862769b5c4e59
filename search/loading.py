"""Model, task and trace of an experiment: what ``check`` and ``trace`` look at, without training anything."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from compressors.errors import TraceError, UserError
from compressors.graph import ModelGraph, generation_entries, trace
from evaluators.models import load_model
from evaluators.tasks import make_task
from evaluators.tasks.task import Task
from search.experiment import Experiment

__all__ = ["Loaded", "load_experiment"]


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
    model = load_model(experiment.model, experiment.folder, task)
    return Loaded(model, task, _traced(model, task))


def _traced(model: nn.Module, task: Task) -> ModelGraph:
    """With the decoding step of a language model, where that can be traced."""
    entries = generation_entries(model, task.example_inputs) if task.name == "causal-lm" else {}
    try:
        return trace(model, task.example_inputs, programs=entries)
    except TraceError:
        if not entries:
            raise
        return trace(model, task.example_inputs)
