from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import ModelGraph, Polynomial, Shapes, trace
from compressors.targets import Kernel, Target
from evaluators.devices.rates import rates_of
from evaluators.devices.roofline import Interval, Roofline


class PlainTarget(Target):
    """Fuses activations alone; stores every weight at its bits."""

    name = "plain"

    def kernels(self, graph: ModelGraph) -> tuple[Kernel, ...]:
        def total(tensors: tuple[int, ...], roles: tuple[str, ...]) -> Polynomial:
            return sum((graph.tensors[t].elements for t in tensors if graph.tensors[t].role in roles), Polynomial.constant(0))

        return tuple(
            Kernel(
                o.name,
                o.op_class,
                o.macs,
                Polynomial.constant(0) if o.site is None else graph.sites[o.site].elements,
                total(o.inputs, ("input", "activation")),
                total(o.outputs, ("activation",)),
                o.site,
                o.module,
                o.present,
                o.site_parts,
            )
            for o in graph.operators
            if o.op_class not in ("view", "activation")
        )

    def compute_precision(self, weight_bits: Any, activation_bits: Any, granularity: Any, dynamic: Any) -> Any:
        names = np.array(["fp32", "fp16", "int8", "int4"])
        index = np.where(weight_bits >= 32, 0, np.where(activation_bits <= 8, 2, np.where(weight_bits == 16, 1, 3)))
        return names[index]

    def stored_bytes(self, graph: ModelGraph, shapes: Shapes) -> Any:
        sites = {s.name for s in graph.sites}
        total = np.zeros(len(shapes), dtype=np.int64)
        for t in graph.tensors:
            if t.role == "parameter" and t.name not in sites:
                total += 4 * t.elements.evaluate(shapes.widths)
        for i, s in enumerate(graph.sites):
            total += s.elements.evaluate(shapes.widths) * shapes.weight_bits[:, i] // 8
        return total

    def supported(self, graph: Any, edit: Any) -> dict[str, str]:
        return {}

    def container_bits(self, weight_bits: int, *, operator: str = "linear", granularity: int = 0) -> int:
        return weight_bits

    def annotator(self, sites: Any, *, dynamic: bool) -> Any:
        raise NotImplementedError

    def rounded_at_run_time(self, x: torch.Tensor, granularity: int) -> torch.Tensor:
        return x

    def export(self, model: nn.Module, example_inputs: Mapping[str, torch.Tensor], folder: Path) -> Path:
        raise NotImplementedError

    def load(self, path: Path, threads: int = 0) -> Any:
        raise NotImplementedError

    def file_bytes(self, path: Path) -> int:
        raise NotImplementedError


@pytest.fixture(scope="session")
def graph() -> ModelGraph:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 64, 10)
    )
    return trace(model.eval(), (torch.zeros(1, 3, 16, 16),))


@pytest.fixture(scope="session")
def device() -> Callable[..., Roofline]:
    target = PlainTarget()

    def build(name: str, runtime: str = "onnxruntime", unit: str = "cpu", threads: int | None = None) -> Roofline:
        return Roofline(
            f"{name}/{runtime}", int(1e9), rates_of(name, unit, runtime, threads), target, "spec-only", Interval((0.4, 2.5), (0.7, 1.6), (0.2, 5.0))
        )

    return build


@pytest.fixture(scope="session")
def bits() -> Callable[..., Shapes]:
    """The uncompressed widths at other bits."""

    def build(graph: ModelGraph, weight: int, activation: int, *, dynamic: bool = False) -> Shapes:
        base = graph.baseline()
        return replace(
            base,
            weight_bits=np.full_like(base.weight_bits, weight),
            activation_bits=np.full_like(base.activation_bits, activation),
            dynamic=np.array([dynamic]),
        )

    return build
