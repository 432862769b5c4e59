from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compressors.graph import ModelGraph, Shapes
from evaluators.devices.profile import load_profile, profile_names


def pruned(graph: ModelGraph, share: float) -> Shapes:
    base = graph.baseline()
    widths = base.widths.copy()
    for i, axis in enumerate(graph.axes):
        if axis.fixed is None:
            widths[:, i] = max(1, round(axis.size * share))
    return Shapes(widths, base.weight_bits, base.activation_bits, base.dynamic)


@pytest.mark.parametrize("name", profile_names())
def test_narrower_is_never_dearer(name: str, graph: ModelGraph, device: Any) -> None:
    unit = next(iter(load_profile(name).units))
    batch = Shapes.concatenate([pruned(graph, share) for share in (0.125, 0.25, 0.5, 0.75, 1.0)])
    for metric, cost in device(name, unit=unit).cost(graph, batch).items():
        assert (np.diff(cost.value) >= 0).all(), metric
        assert (cost.value > 0).all()
        assert (cost.low < cost.value).all()
        assert (cost.value < cost.high).all()


def test_integers_are_smaller_faster_and_thriftier_on_a_pi(graph: ModelGraph, device: Any, bits: Any) -> None:
    costs = device("raspberry-pi-5").cost(graph, Shapes.concatenate([graph.baseline(), bits(graph, 8, 8)]))
    for metric, cost in costs.items():
        assert cost.value[1] < cost.value[0], metric


def test_half_precision_weights_are_widened_where_the_runtime_computes_in_single(graph: ModelGraph, device: Any, bits: Any) -> None:
    both = Shapes.concatenate([graph.baseline(), bits(graph, 16, 16)])
    widened = device("raspberry-pi-5", "onnxruntime").cost(graph, both)
    assert widened["latency_ms"].value[0] == pytest.approx(widened["latency_ms"].value[1])
    assert widened["peak_memory_bytes"].value[0] == pytest.approx(widened["peak_memory_bytes"].value[1])
    native = device("raspberry-pi-5", "litert").cost(graph, both)
    assert native["latency_ms"].value[1] < native["latency_ms"].value[0]
    assert native["peak_memory_bytes"].value[1] < native["peak_memory_bytes"].value[0]


def test_a_unit_without_single_precision_runs_floats_in_half(graph: ModelGraph, device: Any, bits: Any) -> None:
    npu = device("galaxy-s24", "litert", "npu")
    costs = npu.cost(graph, Shapes.concatenate([graph.baseline(), bits(graph, 16, 16)]))
    assert costs["latency_ms"].value[0] == pytest.approx(costs["latency_ms"].value[1])
    assert npu.rates.runs_as("fp32") == "fp16"


def test_quantizing_at_run_time_costs_more_than_calibrated_ranges(graph: ModelGraph, device: Any, bits: Any) -> None:
    costs = device("raspberry-pi-4").cost(graph, Shapes.concatenate([bits(graph, 8, 8), bits(graph, 8, 8, dynamic=True)]))
    assert costs["latency_ms"].value[0] < costs["latency_ms"].value[1]


def test_more_threads_are_faster_but_not_proportionally(graph: ModelGraph, device: Any) -> None:
    one, four = (device("raspberry-pi-5", threads=n).cost(graph, graph.baseline())["latency_ms"].value[0] for n in (1, 4))
    assert one / 4 < four < one


def test_bounds_add_up_to_the_latency(graph: ModelGraph, device: Any) -> None:
    model = device("raspberry-pi-4")
    bounds = model.bounds(graph)
    total = sum(ms for _, _, ms in bounds) + model.rates.overhead_ms
    assert total == pytest.approx(model.cost(graph, graph.baseline())["latency_ms"].value[0])
    assert {bound for _, bound, _ in bounds} <= {"compute", "memory", "launch"}


def test_candidates_are_priced_alike_alone_and_in_a_batch(graph: ModelGraph, device: Any, bits: Any) -> None:
    rows = [graph.baseline(), bits(graph, 8, 8), bits(graph, 4, 16), pruned(graph, 0.3), bits(graph, 8, 8, dynamic=True)]
    batch = device("pixel-7").cost(graph, Shapes.concatenate(rows * 500))
    for metric, cost in batch.items():
        alone = [device("pixel-7").cost(graph, row)[metric].value[0] for row in rows]
        np.testing.assert_allclose(cost.value, alone * 500)


def test_an_empty_batch_has_no_costs(graph: ModelGraph, device: Any) -> None:
    assert all(len(cost.value) == 0 for cost in device("pixel-7").cost(graph, graph.baseline()[:0]).values())
