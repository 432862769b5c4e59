"""A traced model as plain data: axes, sites, modules, and what each device makes of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from compressors.graph import INDICATORS, ModelGraph
from evaluators.devices.device_model import DeviceModel

__all__ = ["describe"]


def describe(graph: ModelGraph, example_inputs: Mapping[str, Tensor], devices: Sequence[DeviceModel], depth: int = 2) -> dict[str, Any]:
    """Everything ``compareto trace`` shows, as plain data.

    Args:
        graph: the trace.
        example_inputs: what it was traced with.
        devices: each prices the uncompressed model.
        depth: components of a module's name that its parameters and MACs are added up over.
    """
    return {
        "fingerprint": graph.fingerprint,
        "inputs": {name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")} for name, tensor in example_inputs.items()},
        "parameters": graph.parameters,
        "macs": graph.macs,
        "axes": [
            {"name": a.name, "kind": a.kind, "size": a.size, "fixed": a.fixed, "modules": list(a.modules)}
            for a in graph.axes
            if a.kind not in ("input", *INDICATORS)
        ],
        "sites": _sites(graph),
        "modules": _modules(graph, depth),
        "devices": [_device(graph, device) for device in devices],
    }


def _sites(graph: ModelGraph) -> list[dict[str, Any]]:
    widths = graph.baseline().widths
    return [
        {
            "name": site.name,
            "operator": site.operator,
            "elements": int(site.elements.evaluate(widths)[0]),
            "channels": int(site.channels.evaluate(widths)[0]),
            "bias": site.bias,
            "shared": site.shared,
        }
        for site in graph.sites
    ]


def _modules(graph: ModelGraph, depth: int) -> list[dict[str, Any]]:
    widths = graph.baseline().widths
    parameters: dict[str, int] = defaultdict(int)
    macs: dict[str, int] = defaultdict(int)
    for tensor in graph.tensors:
        if tensor.role == "parameter":
            parameters[_prefix(tensor.name.rpartition(".")[0], depth)] += int(tensor.elements.evaluate(widths)[0])
    for operator in graph.operators:
        if operator.macs.terms:
            macs[_prefix(operator.module, depth)] += int(operator.macs.evaluate(widths)[0])
    # The factors of layers that are whole have neither.
    return [
        {"name": name, "parameters": parameters[name], "macs": macs[name]} for name in dict.fromkeys((*parameters, *macs)) if parameters[name] or macs[name]
    ]


def _prefix(module: str, depth: int) -> str:
    return ".".join(module.split(".")[:depth])


def _device(graph: ModelGraph, device: DeviceModel) -> dict[str, Any]:
    costs = device.cost(graph, graph.baseline())
    bounds = sorted(device.bounds(graph), key=lambda b: -b[2])
    total = float(np.sum([ms for _, _, ms in bounds])) or 1.0
    shares: dict[str, float] = defaultdict(float)
    for _, bound, ms in bounds:
        shares[bound] += ms / total
    return {
        "key": device.key,
        "memory_bytes": device.memory_bytes,
        **{name: cost.estimate(0).to_plain() for name, cost in costs.items()},
        "bound_by": {bound: round(share, 4) for bound, share in sorted(shares.items(), key=lambda item: -item[1])},
        "kernels": [{"name": name, "bound": bound, "ms": ms} for name, bound, ms in bounds],
    }
