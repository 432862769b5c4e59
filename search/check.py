"""``check``: everything that can be wrong with an experiment short of training, all of it in one message."""

from __future__ import annotations

from collections.abc import Iterator

from compressors.early_exit import EarlyExit, told_no_classes
from compressors.errors import UserError
from compressors.graph import ModelGraph
from compressors.recipe import step_class
from evaluators.devices import device_named
from evaluators.tasks.task import Task
from search.dimension import spell
from search.experiment import Experiment
from search.loading import load_experiment
from search.size_traces import size_problems
from search.space import Space
from search.teachers import teachers_of

__all__ = ["check", "graph_problems"]


def check(experiment: Experiment) -> list[str]:
    """Load model and data, trace, and compare the recipe with the trace. Returns lines of what was found.

    Raises:
        UserError: every problem, one a line.
    """
    loaded = load_experiment(experiment)
    graph = loaded.graph
    problems = graph_problems(experiment.space, graph, loaded.task) or list(size_problems(experiment.space, loaded.model, loaded.task, graph))
    problems = problems or teachers_of(experiment.space, experiment.model.task, experiment.folder, loaded.model, loaded.task)[1]
    if problems:
        raise UserError("\n".join(problems))
    kinds: dict[str, int] = {}
    for axis in graph.prunable:
        kinds[axis.kind] = kinds.get(axis.kind, 0) + 1
    lines = [
        f"model: {graph.parameters:,} parameters, {graph.macs:,} MACs",
        f"prunable axes: {', '.join(f'{count} {kind}' for kind, count in kinds.items()) or 'none'}; quantization sites: {len(graph.sites)}",
        f"data: {', '.join(f'{split} {loaded.task.steps(split, batch_size=1):,}' for split in ('train', 'calibration', 'search', 'report'))} examples",
    ]
    for key in experiment.devices:
        costs = device_named(key).cost(graph, graph.baseline())
        latency, memory = costs["latency_ms"].estimate(0), costs["peak_memory_bytes"].estimate(0)
        lines.append(
            f"{key}: uncompressed {latency.value:.3g} ms ({latency.low:.3g}-{latency.high:.3g}, {latency.tier}), "
            f"{memory.value / 1e6:.3g} MB ({memory.low / 1e6:.3g}-{memory.high / 1e6:.3g})"
            + (f", first token {costs['ttft_ms'].value[0]:.3g} ms, {costs['ms_per_token'].value[0]:.3g} ms a token" if "ttft_ms" in costs else "")
        )
    size = experiment.space.size
    lines.append(f"search space: {len(experiment.space.dimensions)} dimensions, {'not countable' if size is None else f'{size:,} recipes'}")
    return lines


def graph_problems(space: Space, graph: ModelGraph, task: Task) -> list[str]:
    """Patterns that match nothing, axis kinds that the model does not have and steps that ``task`` has no use for, each with its place."""
    return list(_graph_problems(space, graph, task))


def _graph_problems(space: Space, graph: ModelGraph, task: Task) -> Iterator[str]:
    kinds = tuple(dict.fromkeys(axis.kind for axis in graph.prunable))
    for path, name, settings in space.steps():
        if issubclass(step_class(name), EarlyExit) and (why := told_no_classes(task)):
            yield f"{spell(path)}: {why}"
            continue
        steps = [step_class(name).from_config(filled) for filled in space.corners(path, settings)]
        for key, message in dict.fromkeys(problem for step in steps for problem in step.problems(graph)):
            yield f"{spell((*path, key))}: {message}; compareto trace lists the names"
        for key in ("ratio", "threshold"):
            amount = settings.get(key)
            for kind in amount if isinstance(amount, dict) else ():
                if kind in _KINDS and kind not in kinds:
                    yield f"{spell((*path, key, kind))}: the model has no prunable axis of kind {kind!r}; accepted: {', '.join(kinds) or 'none'}"


_KINDS = ("channels", "ffn", "heads", "kv_groups", "hidden", "vocabulary", "blocks")
