from __future__ import annotations

import pytest

from compressors.graph import ModelGraph
from evaluators.devices import device_named
from evaluators.devices.network import Networked, transfer_ms
from evaluators.devices.profile import load_profile


def test_the_round_trip_and_the_transfer_are_added(graph: ModelGraph) -> None:
    model, network = device_named("remote/onnxruntime"), load_profile("remote").network
    assert isinstance(model, Networked)
    assert network is not None
    expected = network.rtt_ms + (3 * 16 * 16 * 4 / network.upload_mb_s + 10 * 4 / network.download_mb_s) * 1e-3
    assert transfer_ms(graph, network) == pytest.approx(expected)
    there, here = (m.cost(graph, graph.baseline()) for m in (model, model.model))
    assert there["latency_ms"].value - here["latency_ms"].value == pytest.approx(expected)
    assert there["energy_mj"].value == pytest.approx(expected * network.radio_w)
    assert sum(kernel.ms for kernel in model.bounds(graph)) > expected


def test_a_small_network_is_faster_on_the_device_at_hand(graph: ModelGraph) -> None:
    phone, remote = (device_named(key).cost(graph, graph.baseline())["latency_ms"].value[0] for key in ("galaxy-s24/onnxruntime", "remote/onnxruntime"))
    assert phone < remote
