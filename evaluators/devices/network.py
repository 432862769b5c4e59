"""A device that is elsewhere: what the network between it and the caller adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compressors.graph import ModelGraph, Shapes
from evaluators.devices.device_model import Adjusted, CostArray, KernelBound
from evaluators.devices.energy import REQUESTS_PER_HOUR
from evaluators.devices.profile_file import Network

__all__ = ["Networked", "transfer_ms"]

_BYTES = 4
_MJ_PER_MWH = 3600.0


def transfer_ms(graph: ModelGraph, network: Network) -> float:
    """Milliseconds of one request: the round trip, and the uncompressed model's inputs and outputs at four bytes an element."""
    widths = graph.baseline().widths
    read = {i for operator in graph.operators for i in operator.inputs}
    viewed = {t.alias_of for t in graph.tensors}
    results = {i for operator in graph.operators for i in operator.outputs if i not in read and i not in viewed}
    up = sum(int(t.elements.evaluate(widths)[0]) for t in graph.tensors if t.role == "input")
    down = sum(int(graph.tensors[i].elements.evaluate(widths)[0]) for i in results)
    return network.rtt_ms + _BYTES * (up / network.upload_mb_s + down / network.download_mb_s) * 1e-3


@dataclass(frozen=True)
class Networked(Adjusted):
    """``model`` behind a network: the transfer is added to its latency, and energy is the radio's of the caller, the server's being somebody else's."""

    network: Network
    requests_per_hour: float = REQUESTS_PER_HOUR

    def cost(self, graph: ModelGraph, shapes: Shapes) -> dict[str, CostArray]:
        """The model's costs with the network's."""
        costs, ms = self.model.cost(graph, shapes), transfer_ms(graph, self.network)
        for name in ("latency_ms", "sustained_latency_ms"):
            if name in costs:
                c = costs[name]
                costs[name] = CostArray(c.value + ms, c.low + ms, c.high + ms, c.tier)
        radio = np.full(len(shapes), ms * self.network.radio_w)
        costs["energy_mj"] = CostArray(radio, radio * 0.3, radio * 3.0, "spec-only")
        if "ttft_ms" in costs:
            # Tokens travel, no logits; further ones follow while the next is computed.
            c, rtt = costs["ttft_ms"], self.network.rtt_ms
            costs["ttft_ms"] = CostArray(c.value + rtt, c.low + rtt, c.high + rtt, c.tier)
        if "energy_per_hour_mwh" in costs:
            hour = radio * self.requests_per_hour / _MJ_PER_MWH
            costs["energy_per_hour_mwh"] = CostArray(hour, hour * 0.3, hour * 3.0, "spec-only")
        return costs

    def bounds(self, graph: ModelGraph, shapes: Shapes | None = None) -> Sequence[KernelBound]:
        """As the model says, and the transfer."""
        return [*self.model.bounds(graph, shapes), KernelBound("network", "transfer", transfer_ms(graph, self.network))]
