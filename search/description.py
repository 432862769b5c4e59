"""A traced model as plain data: programs, axes, sites, blocks, and what each device makes of it."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from compressors.graph import INDICATORS, ModelGraph, Shapes
from compressors.targets import Target
from evaluators.devices.device_model import DeviceModel, KernelBound

__all__ = ["bounded", "describe", "kernels_of"]

_SLOWEST = 5


def describe(
    graph: ModelGraph, example_inputs: Mapping[str, Tensor], devices: Sequence[DeviceModel], target: Target, depth: int | None = None
) -> dict[str, Any]:
    """Everything ``compareto trace`` shows, as plain data.

    Args:
        graph: the trace.
        example_inputs: what it was traced with.
        devices: each prices the uncompressed model.
        target: whose stored bytes are given.
        depth: components of a module's name that are added up over; None for its own blocks: those of its stacks, and its
            top-level modules around them.
    """
    inputs = {name: {"shape": list(tensor.shape), "dtype": str(tensor.dtype).removeprefix("torch.")} for name, tensor in example_inputs.items()}
    return {
        "fingerprint": graph.fingerprint,
        "inputs": inputs,
        "parameters": graph.parameters,
        "macs": graph.macs,
        "bytes": int(target.stored_bytes(graph, graph.baseline())[0]),
        "target": target.name,
        "programs": _programs(graph, target),
        "axes": [
            {"name": a.name, "kind": a.kind, "size": a.size, "fixed": a.fixed, "modules": list(a.modules)}
            for a in graph.axes
            if a.kind not in ("input", "constant", *INDICATORS)
        ],
        "sites": _sites(graph),
        "blocks": _blocks(graph, target, depth),
        "devices": [_device(graph, device) for device in devices],
    }


def _programs(graph: ModelGraph, target: Target) -> list[dict[str, Any]]:
    """The forward pass and what else there is: what each is called with, what it executes as it was traced, and the kernels that the runtime makes of that."""
    baseline = graph.baseline()
    return [
        {
            "name": name,
            "inputs": list(program.inputs),
            "operators": sum(o.op_class != "view" and bool(o.present.evaluate(baseline.widths)[0]) for o in program.operators),
            "kernels": sum(bool(kernel.present.evaluate(baseline.widths)[0]) for kernel in target.kernels(program)),
            "macs": int(graph.count_macs(baseline, name)[0]),
        }
        for name, program in {"forward": graph, **graph.by_program}.items()
    ]


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


def _blocks(graph: ModelGraph, target: Target, depth: int | None) -> list[dict[str, Any]]:
    """Parameters, bytes and MACs of each group of modules, in the model's order."""
    widths = graph.baseline().widths
    # The factors of layers that are whole have neither elements nor MACs.
    owned = {name: count for name, tensor in graph.parameter_tensors.items() if (count := int(tensor.elements.evaluate(widths)[0]))}
    spent = [(operator.module, count) for operator in graph.operators if (count := int(operator.macs.evaluate(widths)[0]))]
    group = _groups(graph, [*map(_owner, owned), *(module for module, _ in spent)], depth)
    parameters: dict[str, list[str]] = defaultdict(list)
    macs: dict[str, int] = defaultdict(int)
    for name in owned:
        parameters[group(_owner(name))].append(name)
    for module, count in spent:
        macs[group(module)] += count
    return [
        {"name": name, "parameters": sum(owned[p] for p in parameters[name]), "bytes": _stored(graph, target, parameters[name]), "macs": macs[name]}
        for name in dict.fromkeys((*parameters, *macs))
    ]


def _groups(graph: ModelGraph, modules: Iterable[str], depth: int | None) -> Callable[[str], str]:
    """What a module is added up under: the block that it lies in, else the outermost module around it that holds no block and not the whole model."""
    if depth is not None:
        return lambda module: ".".join(module.split(".")[:depth])
    blocks = {block.path for block in graph.blocks}
    paths = {*modules, *blocks} - {""}
    around = {parent for block in blocks for parent in _prefixes(block)[:-1]}
    around |= {prefix for path in paths for prefix in _prefixes(path)[:-1] if all(_within(other, prefix) for other in paths)}

    def group(module: str) -> str:
        prefixes = _prefixes(module)
        return next((prefix for prefix in prefixes if prefix in blocks or prefix not in around), prefixes[-1])

    return group


def _stored(graph: ModelGraph, target: Target, parameters: Collection[str]) -> int:
    """Bytes that ``target`` stores for some of the parameters: those of the graph without all others."""
    tensors = (t if t.role != "parameter" or t.name in parameters else dataclasses.replace(t, role="constant") for t in graph.tensors)
    part = dataclasses.replace(graph, tensors=tuple(tensors), sites=tuple(site for site in graph.sites if site.name in parameters))
    return int(target.stored_bytes(part, part.baseline())[0])


def _owner(parameter: str) -> str:
    return parameter.rpartition(".")[0]


def _prefixes(path: str) -> list[str]:
    """``a``, ``a.b``, ``a.b.c``: the modules that a module lies in, and itself."""
    parts = path.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))]


def _within(path: str, module: str) -> bool:
    return path == module or path.startswith(f"{module}.")


def _device(graph: ModelGraph, device: DeviceModel) -> dict[str, Any]:
    costs = device.cost(graph, graph.baseline())
    return {
        "key": device.key,
        "memory_bytes": device.memory_bytes,
        **{name: cost.estimate(0).to_plain() for name, cost in costs.items()},
        **kernels_of(graph, device),
        "programs": {name: kernels_of(program, device) for name, program in graph.by_program.items()},
    }


def kernels_of(graph: ModelGraph, device: DeviceModel, shapes: Shapes | None = None) -> dict[str, Any]:
    """``bound_by``: shares of the time; ``units``: shares of the units that a model is placed on, where there are several; ``kernels``, the slowest first.

    Args:
        graph: a program.
        device: that executes it.
        shapes: one candidate; the uncompressed model where None.
    """
    kernels = sorted(device.bounds(graph, shapes), key=lambda kernel: -kernel.ms)
    modules = {operator.name: operator.module for operator in graph.operators}
    found = [{"name": k.name, "module": modules.get(k.name, ""), "bound": k.bound, "ms": k.ms, **({"unit": k.unit} if k.unit else {})} for k in kernels]
    shares = {"bound_by": _shares(kernels, "bound"), **({"units": _shares(kernels, "unit")} if any(k.unit for k in kernels) else {})}
    return {**shares, "kernels": found}


def bounded(graph: ModelGraph, device: DeviceModel, shapes: Shapes) -> dict[str, Any]:
    """What a record keeps of ``kernels_of`` one candidate: the slowest few kernels, with their share of the time; under ``decode`` those of a token."""

    def short(program: ModelGraph) -> dict[str, Any]:
        found = kernels_of(program, device, shapes)
        total = sum(k["ms"] for k in found["kernels"]) or 1.0
        slowest = [{**k, "ms": float(f"{k['ms']:.4g}"), "share": round(k["ms"] / total, 4)} for k in found["kernels"][:_SLOWEST]]
        return {**found, "kernels": slowest}

    return {**short(graph), **({"decode": short(graph.by_program["decode"])} if "decode" in graph.by_program else {})}


def _shares(kernels: Sequence[KernelBound], by: str) -> dict[str, float]:
    """Of the time, the largest first."""
    total = sum(k.ms for k in kernels) or 1.0
    shares: dict[str, float] = defaultdict(float)
    for kernel in kernels:
        shares[getattr(kernel, by)] += kernel.ms / total
    return {name: round(share, 4) for name, share in sorted(shares.items(), key=lambda item: -item[1])}
