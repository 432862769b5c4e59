"""Causal language models: what reading the prompt takes, and what each new token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from compressors.graph import ModelGraph, Shapes
from evaluators.devices.device_model import CostArray

__all__ = ["with_programs"]

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
