"""Traces at other sizes of inputs, from the cache where they were made before; and which sizes of a recipe cannot be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from torch import Tensor, nn

from compressors.errors import CompressionError
from compressors.graph import ModelGraph
from compressors.graph.stored import graph_json, read_graph
from compressors.input_size import InputSize
from compressors.recipe import fingerprint, step_class
from compressors.sizing import Sizing
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.task import Task
from search.cache import Cache
from search.dimension import spell
from search.lock import installed_versions
from search.space import Space

__all__ = ["size_problems", "traced_at"]

_VERSION = 1
_GRAPH = "graph.json"


def traced_at(step: InputSize, sizing: Sizing, model: nn.Module, inputs: Mapping[str, Tensor], graph: ModelGraph, cache: Cache | None) -> ModelGraph:
    """The trace of a model at a smaller size.

    Args:
        step: asks for it.
        sizing: what it comes to.
        model: with positions of that size.
        inputs: of that size, keyword inputs of one forward pass.
        graph: the trace at the data's size; stands for the model, whose weights do not matter.
        cache: None traces anew.

    Raises:
        CompressionError: the model does not take inputs of that size.
    """
    if cache is None:
        return step.trace(model, inputs, graph)
    parts = ["trace", _VERSION, graph.fingerprint, type(model).__qualname__, sizing.to_plain(), sorted(installed_versions().items())]
    shapes = [[name, list(value.shape)] for name, value in inputs.items()]
    key = fingerprint([*parts, shapes]) + fingerprint([shapes, *parts])
    with cache.computing(key):
        found = cache.get(key)
        if found is None:
            made = step.trace(model, inputs, graph)

            def write(folder: Path) -> None:
                (folder / _GRAPH).write_text(graph_json(made), encoding="utf-8")

            found = cache.put(key, write, kind="trace", model=type(model).__name__)
    return read_graph((found / _GRAPH).read_bytes(), str(found / _GRAPH))


def size_problems(space: Space, model: nn.Module, task: Task, graph: ModelGraph, cache: Cache | None = None) -> Iterator[str]:
    """A message for each size at the corners of a recipe's ranges that the data or the model cannot have."""
    for path, name, settings in space.steps():
        if not issubclass(step_class(name), InputSize):
            continue
        if not isinstance(task, ArrayTask):
            yield f"{spell(path)}: the inputs of a task of your own have one size; accepted: no input_size"
            continue
        for filled in space.corners(path, settings):
            step = InputSize.from_config(filled)
            try:
                sizing = task.sizing_of(step)
                if sizing is not None:
                    traced_at(step, sizing, step.resized(model, sizing).eval(), task.at(sizing).example_inputs, graph, cache)
            except CompressionError as error:
                yield f"{spell(path[:-1])}.{error}"
