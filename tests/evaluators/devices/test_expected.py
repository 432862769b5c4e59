import dataclasses

import numpy as np
import pytest

from compressors.graph import Shapes, trace
from compressors.graph.exits import STAGE, Exits, staged
from evaluators.devices import device_named
from evaluators.devices.expected import expected_costs
from evaluators.exit_rates import ExitRates
from tests.compressors.test_early_exit import TOKENS, bert

EXITS = Exits(("bert.encoder.layer.0", "bert.encoder.layer.2"))


@pytest.fixture(scope="module")
def graph():
    return trace(bert(6), TOKENS, check_cuts=False)


@pytest.mark.parametrize("key", ["raspberry-pi-5/onnxruntime", "galaxy-s24/litert", "remote/onnxruntime"])
def test_an_expected_cost_is_that_of_the_ways_through_the_model_by_their_shares(graph, key):
    device = device_named(key)
    paths = [device.cost(part, graph.baseline()) for part in staged(graph, EXITS)]
    rates = ExitRates.of(EXITS, 0.8, np.array([0] * 5 + [1] * 3 + [2] * 2))
    found = expected_costs(device, graph, graph.baseline(), [rates])
    for name in ("latency_ms", "energy_mj", "energy_per_hour_mwh", "sustained_latency_ms"):
        if name in found:
            expected = sum(share * path[name].value[0] for share, path in zip((0.5, 0.3, 0.2), paths, strict=True))
            assert found[name].value[0] == pytest.approx(expected), name
            assert found[name].low[0] <= found[name].value[0] <= found[name].high[0]
    assert found["peak_memory_bytes"].value[0] == paths[-1]["peak_memory_bytes"].value[0]
    assert found["latency_ms"].tier == paths[0]["latency_ms"].tier


def test_each_stage_starts_the_runtime_again(graph):
    device = device_named("raspberry-pi-5/onnxruntime").model
    slow = dataclasses.replace(device, rates=device.rates.model_copy(update={"launch_us": {**device.rates.launch_us, STAGE: 5000.0}}))
    parts = staged(graph, EXITS)

    def more(one, other):
        return [one.cost(part, graph.baseline())["latency_ms"].value[0] - other.cost(part, graph.baseline())["latency_ms"].value[0] for part in parts]

    small = more(slow, device)
    assert 0 == small[0] < small[1] < small[2] < 2 * 5.0, "this model has some kilobytes, which push little out of the caches"
    free = dataclasses.replace(device, rates=device.rates.model_copy(update={"overhead_ms": 0.0}))
    assert more(device, free) == pytest.approx([i * device.rates.overhead_ms for i in (2, 3, 4)]), "that of the inference, and one a stage"


def test_a_start_is_cold_after_what_fills_the_cache_of_a_core():
    rates = device_named("raspberry-pi-5/onnxruntime").model.rates
    measured = rates.model_copy(update={"overhead_ms": 0.01, "launch_us": {**rates.launch_us, STAGE: 210.0}})
    two, streamed = np.full(4, 2.0), np.array([0.0, 2**20, 2**21, 1e9])
    assert measured.stages_us(two, streamed) == pytest.approx([20.0, 120.0, 220.0, 220.0])
    assert measured.stages_us(np.ones(1), np.full(1, 1e9)) == pytest.approx([10.0]), "whoever leaves first waits for no other start"


def test_candidates_have_their_own_rates(graph):
    device = device_named("raspberry-pi-5/onnxruntime")
    two = Shapes.concatenate([graph.baseline()] * 2)
    sure, unsure = ExitRates.of(EXITS, 0.0, np.zeros(10, dtype=np.int64)), ExitRates.all(EXITS)
    early, late = expected_costs(device, graph, two, [sure, unsure])["latency_ms"].value
    first, _, whole = (device.cost(part, graph.baseline())["latency_ms"].value[0] for part in staged(graph, EXITS))
    assert early == pytest.approx(first)
    assert late == pytest.approx(whole)
    assert late >= device.cost(graph, graph.baseline())["latency_ms"].value[0], "heads take time"
