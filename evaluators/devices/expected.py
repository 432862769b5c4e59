"""What an inference of a model with early exits costs on average: the price of each way through it, by the share of inputs that take it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compressors.graph import ModelGraph, Shapes
from compressors.graph.exits import staged
from evaluators.devices.device_model import CostArray, DeviceModel
from evaluators.exit_rates import ExitRates

__all__ = ["expected_costs"]

Floats = NDArray[np.float64]


def expected_costs(device: DeviceModel, graph: ModelGraph, shapes: Shapes, rates: Sequence[ExitRates]) -> dict[str, CostArray]:
    """Latency, energy and what follows from them as means over inputs; memory of the whole, since all stages are loaded.

    An input that leaves at a stage costs what the graph up to there does, in which each stage begins with a start of the runtime. Where
    latency adds up over kernels, this is the sum over stages of the share of inputs that reach it times its price. The intervals of prices and of shares
    are both worst at once.

    Args:
        device: prices graphs.
        graph: the traced model, without exits.
        shapes: candidates.
        rates: one for each candidate, of the same exits.
    """
    paths = [device.cost(part, shapes) for part in staged(graph, rates[0].exits)]
    costs = dict(paths[-1])
    for name in costs:
        if name == "peak_memory_bytes":
            continue
        value, low, high = (_expected([getattr(path[name], end) for path in paths], rates, end) for end in ("value", "low", "high"))
        costs[name] = CostArray(value, low, high, costs[name].tier)
    return costs


def _expected(prices: Sequence[Floats], rates: Sequence[ExitRates], end: str) -> Floats:
    """``prices``: ``[candidates]`` of each way through the model; the shortest first."""
    reached = np.array([[getattr(e, end) for e in one.reached] for one in rates]).T
    steps = np.diff(np.stack(prices), axis=0, prepend=0.0)
    total: Floats = (reached * steps).sum(axis=0)
    return total
