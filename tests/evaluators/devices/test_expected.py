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
    assert device.rates.launch(STAGE) == 1e3 * device.rates.overhead_ms
    slow = dataclasses.replace(device, rates=device.rates.model_copy(update={"launch_us": {**device.rates.launch_us, STAGE: 5000.0}}))
    parts = staged(graph, EXITS)
    more = [slow.cost(part, graph.baseline())["latency_ms"].value[0] - device.cost(part, graph.baseline())["latency_ms"].value[0] for part in parts]
    assert more == pytest.approx([i * (5.0 - device.rates.overhead_ms) for i in range(3)])


def test_candidates_have_their_own_rates(graph):
    device = device_named("raspberry-pi-5/onnxruntime")
    two = Shapes.concatenate([graph.baseline()] * 2)
    sure, unsure = ExitRates.of(EXITS, 0.0, np.zeros(10, dtype=np.int64)), ExitRates.all(EXITS)
    early, late = expected_costs(device, graph, two, [sure, unsure])["latency_ms"].value
    first, _, whole = (device.cost(part, graph.baseline())["latency_ms"].value[0] for part in staged(graph, EXITS))
    assert early == pytest.approx(first)
    assert late == pytest.approx(whole)
    assert late >= device.cost(graph, graph.baseline())["latency_ms"].value[0], "heads take time"
