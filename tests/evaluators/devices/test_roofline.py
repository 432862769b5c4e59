from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from compressors.graph import ModelGraph, Shapes
from evaluators.devices import device_keys, device_named
from evaluators.devices.device_model import GENERATING, PREDICTED
from evaluators.devices.profile import load_profile, profile_names
from evaluators.metric import TIERS


def pruned(graph: ModelGraph, share: float) -> Shapes:
    base = graph.baseline()
    widths = base.widths.copy()
    for i, axis in enumerate(graph.axes):
        if axis.fixed is None:
            widths[:, i] = max(1, round(axis.size * share))
    return replace(base, widths=widths)


@pytest.mark.parametrize("name", profile_names())
def test_narrower_is_never_dearer(name: str, graph: ModelGraph, device: Any) -> None:
    unit, described = next(iter(load_profile(name).units.items()))
    batch = Shapes.concatenate([pruned(graph, share) for share in (0.125, 0.25, 0.5, 0.75, 1.0)])
    for metric, cost in device(name, next(iter(described.runtimes)), unit).cost(graph, batch).items():
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


def test_weight_only_integers_shrink_the_file_not_the_memory_in_onnx_runtime(graph: ModelGraph, bits: Any) -> None:
    device = device_named("raspberry-pi-5/onnxruntime")
    memory = device.cost(graph, Shapes.concatenate([graph.baseline(), bits(graph, 4, 16), bits(graph, 8, 8)]))["peak_memory_bytes"].value
    assert memory[1] == pytest.approx(memory[0], rel=1e-3)
    assert memory[2] < memory[0]


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
    total = sum(kernel.ms for kernel in bounds) + model.rates.overhead_ms
    assert total == pytest.approx(model.cost(graph, graph.baseline())["latency_ms"].value[0])
    assert {kernel.bound for kernel in bounds} <= {"compute", "memory", "launch"}


def test_candidates_are_priced_alike_alone_and_in_a_batch(graph: ModelGraph, device: Any, bits: Any) -> None:
    rows = [graph.baseline(), bits(graph, 8, 8), bits(graph, 4, 16), pruned(graph, 0.3), bits(graph, 8, 8, dynamic=True)]
    batch = device("pixel-7").cost(graph, Shapes.concatenate(rows * 500))
    for metric, cost in batch.items():
        alone = [device("pixel-7").cost(graph, row)[metric].value[0] for row in rows]
        np.testing.assert_allclose(cost.value, alone * 500)


def test_an_empty_batch_has_no_costs(graph: ModelGraph, device: Any) -> None:
    assert all(len(cost.value) == 0 for cost in device("pixel-7").cost(graph, graph.baseline()[:0]).values())


def test_every_device_prices_a_model_and_says_how_it_knows(graph: ModelGraph) -> None:
    for key in device_keys():
        if key.startswith("this-host"):
            continue
        model = device_named(key)
        assert model.key == key
        assert model.memory_bytes >= 2e8
        costs = model.cost(graph, graph.baseline())
        assert set(costs) == set(PREDICTED) - set(GENERATING)
        assert all(cost.tier in TIERS and np.isfinite(cost.value).all() for cost in costs.values())
        assert costs["energy_mj"].tier == "spec-only"


def test_a_phone_of_the_slow_class_is_slower_than_a_current_one(graph: ModelGraph) -> None:
    slow, fast = (device_named(key).cost(graph, graph.baseline())["latency_ms"].value[0] for key in ("cortex-a53-2gb/litert", "galaxy-s24/litert"))
    assert slow > 5 * fast
