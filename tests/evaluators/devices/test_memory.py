from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import ModelGraph, Shapes, trace
from evaluators.devices.kernel_table import kernel_table
from evaluators.devices.memory import peak_bytes
from evaluators.devices.rates import Rates, rates_of


def held(graph: ModelGraph, device: Any, shapes: Shapes | None = None, **changes: Any) -> float:
    model = device("x86-server-core")
    rates: Rates = model.rates.model_copy(update={"memory_bytes": 0.0, "weight_copies": {}, **changes})
    return float(peak_bytes(kernel_table(graph, model.target, graph.baseline() if shapes is None else shapes), rates)[0])


def test_one_copy_of_the_weights_and_the_live_activations_and_the_runtime(graph: ModelGraph, device: Any) -> None:
    activations = 4 * float(graph.activation_peak(graph.baseline())[0])
    assert held(graph, device) == pytest.approx(4 * graph.parameters + activations)
    assert held(graph, device, memory_bytes=5e6) == pytest.approx(4 * graph.parameters + activations + 5e6)


def test_what_a_runtime_copies_counts_by_kind_of_kernel(graph: ModelGraph, device: Any, bits: Callable[..., Shapes]) -> None:
    convolutions = 4.0 * (32 * 3 * 9 + 64 * 32 * 9)
    linear = 4.0 * 64 * 64 * 10
    once = held(graph, device)
    assert held(graph, device, weight_copies={"convolution": 3.0}) - once == pytest.approx(2 * convolutions)
    assert held(graph, device, weight_copies={"other": 1.5}) - once == pytest.approx(0.5 * linear)
    integers = bits(graph, 8, 8)
    assert held(graph, device, integers, weight_copies={"convolution": 3.0, "convolution_int8": 2.0}) - held(graph, device, integers) == pytest.approx(
        convolutions / 4
    )


def test_a_tied_embedding_is_held_for_both_of_its_readers(device: Any) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(100, 8)
            self.head = nn.Linear(8, 100, bias=False)
            self.head.weight = self.table.weight

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.head(self.table(ids))
            return out

    graph = trace(Tied().eval(), (torch.zeros(1, 4, dtype=torch.int64),))
    activations = 4 * float(graph.activation_peak(graph.baseline())[0])
    assert held(graph, device) == pytest.approx(2 * 4 * 100 * 8 + activations)


def test_the_cache_of_a_language_model_is_counted(graph: ModelGraph, device: Any) -> None:
    cache = replace(graph.tensors[0], role="input", floating=True)
    program = SimpleNamespace(name="decode", tensors=(cache, replace(cache, floating=False)), inputs=(), operators=(), growth=1.5)
    cached = replace(graph, programs=(program,))
    assert held(cached, device) - held(graph, device) == pytest.approx(1.5 * 4 * float(cache.elements.evaluate(graph.baseline().widths)[0]))


def test_the_peak_of_onnx_runtime_is_near_what_was_measured() -> None:
    """MiniLM-L6 in Python: 193 MB; 43 MB of linear layers and 48 MB of tables in its file."""
    rates = rates_of("x86-server-core", "cpu", "onnxruntime", None)
    predicted = rates.memory_bytes + rates.weight_copies["other"] * 90.9e6 + 1.2e6
    assert predicted == pytest.approx(193.3e6, rel=0.05)
    assert np.isclose(rates.weight_copies["convolution"], 2.9)
