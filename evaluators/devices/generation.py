"""Causal language models: what reading the prompt takes, and what each new token."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compressors.graph import ModelGraph, Shapes
from evaluators.devices.device_model import CostArray

__all__ = ["generates", "in_place", "with_programs"]

_PAST = "past_key_values"
_KEPT = 8
_appended: OrderedDict[int, tuple[ModelGraph, ModelGraph]] = OrderedDict()

Price = Callable[[ModelGraph, Shapes], dict[str, CostArray]]


def with_programs(price: Price, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
    """The costs of a graph; of one with a decoding step and no encoder also those of the programs by which it generates.

    ``ttft_ms`` is one run of ``prefill`` (of the forward pass where that reads as many tokens), ``ms_per_token`` one of ``decode``: a step in the middle of
    what is told, whose traffic are the weights and the cache. They are arithmetic on kernels as any latency is: products of one row stream their weights.
    Memory is the most that any of the programs needs.

    Args:
        price: the costs of one program as a graph.
        graph: with its programs.
        shapes: the candidates.
    """
    costs = price(graph, shapes)
    if not graph.programs or "decode" not in graph.by_program or "encoder" in graph.by_program:
        return costs
    step = price(graph.by_program["decode"], shapes)
    read = price(graph.by_program["prefill"], shapes) if "prefill" in graph.by_program else costs
    peak = costs["peak_memory_bytes"]
    for other in (step["peak_memory_bytes"], read["peak_memory_bytes"]):
        peak = replace(peak, **{end: np.maximum(getattr(peak, end), getattr(other, end)) for end in ("value", "low", "high")})
    return {**costs, "peak_memory_bytes": peak, "ttft_ms": read["latency_ms"], "ms_per_token": step["latency_ms"]}


def generates(graph: ModelGraph) -> bool:
    """Whether a graph is that of a model with a decoding step, or the step."""
    return any(program.name == "decode" for program in graph.programs) or _steps(graph)


def _steps(graph: ModelGraph) -> bool:
    return any(name.startswith(_PAST) for name in graph.inputs)


def in_place(graph: ModelGraph) -> ModelGraph:
    """A decoding step whose cache stays where it is: joining, repeating and reordering it are views. Graphs without a cache as they are."""
    if not _steps(graph):
        return graph
    if id(graph) not in _appended:
        # The graph is held so that its id cannot be reused while the entry lives.
        _appended[id(graph)] = (graph, _appending(graph))
        while len(_appended) > _KEPT:
            _appended.popitem(last=False)
    return _appended[id(graph)][1]


def _appending(graph: ModelGraph) -> ModelGraph:
    tensors, operators = list(graph.tensors), list(graph.operators)
    held = {i for i, tensor in enumerate(tensors) if tensor.role == "input" and tensor.name.startswith(_PAST)}
    for position, operator in enumerate(operators):
        source = next((i for i in operator.inputs if i in held), None)
        if source is None or operator.op_class not in ("movement", "view"):
            continue
        operators[position] = replace(operator, op_class="view")
        for i in operator.outputs:
            # Joined with a new token it is longer by that; heads that share a group read the same values.
            elements = tensors[i].elements if ".cat." in operator.target else tensors[source].elements
            tensors[i] = replace(tensors[i], elements=elements, alias_of=source)
            held.add(i)
    return replace(graph, tensors=tuple(tensors), operators=tuple(operators), _index={})
