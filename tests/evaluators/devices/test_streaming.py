from dataclasses import replace

import pytest

from compressors.graph import ModelGraph, generation_entries, trace
from evaluators.devices import device_named
from evaluators.devices.profile import load_profile, profile_names
from evaluators.devices.profile_tables import PROFILES, read_yaml
from evaluators.devices.streaming import stream_gb_s
from tests.conformance.families import build


@pytest.fixture(scope="module")
def llama() -> ModelGraph:
    model, inputs = build("llama")
    return trace(model, inputs, check_cuts=False, programs=generation_entries(model, inputs))


def test_what_was_measured_names_units_that_there_are() -> None:
    table = read_yaml(PROFILES / "_streaming.yaml")
    assert len(table["measured"]) >= 5
    for key, rate in table["measured"].items():
        device, _, unit = key.partition(".")
        assert unit in load_profile(device).units, key
        assert stream_gb_s(device, unit) == rate


def test_no_memory_is_read_faster_than_it_can_be() -> None:
    for device in profile_names():
        for unit, described in load_profile(device).units.items():
            assert 0 < stream_gb_s(device, unit) <= described.bandwidth_gb_s.value, f"{device}.{unit}"


def test_the_same_processor_reads_as_it_does_elsewhere() -> None:
    (key, rate), *_ = ((k, r) for k, r in read_yaml(PROFILES / "_streaming.yaml")["measured"].items() if k.startswith("snapdragon-8-elite."))
    assert key == "snapdragon-8-elite.npu"
    assert load_profile("snapdragon-8-elite").like is not None, "it borrows the rates of another"
    assert stream_gb_s("snapdragon-8-elite", "npu") == rate


def test_language_models_alone_are_read_at_this_rate(llama: ModelGraph, graph: ModelGraph) -> None:
    model = device_named("galaxy-s24.npu/qnn_dlc").model  # type: ignore[attr-defined]
    slow = replace(model, stream_gb_s=0.01)
    assert slow.cost(llama, llama.baseline())["ms_per_token"].value > 2 * model.cost(llama, llama.baseline())["ms_per_token"].value
    assert slow.cost(graph, graph.baseline())["latency_ms"].value == model.cost(graph, graph.baseline())["latency_ms"].value
    step = llama.by_program["decode"]
    total = sum(kernel.ms for kernel in slow.bounds(step)) + model.rates.overhead_ms
    assert total == pytest.approx(slow.cost(llama, llama.baseline())["ms_per_token"].value[0])
