"""Latency on the machine at hand, with timings that are made up."""

from types import SimpleNamespace

import pytest

from evaluators.metric import Estimate
from search.experiment import Experiment
from search.host_latency import HostLatency

NAME = "latency_ms@this-host/onnxruntime:1t"
PROMISED = {NAME: Estimate(1.0, 0.66, 1.5, "host-calibrated")}


@pytest.fixture
def host(monkeypatch, tmp_path):
    """``HostLatency`` of an experiment on this machine; call it with the milliseconds of the model and of the uncompressed one (promised: 2, at most 3)."""
    experiment = Experiment.load("quickstart", ["devices=[this-host:1t, raspberry-pi-5/onnxruntime]"])
    graph = SimpleNamespace(baseline=lambda: None)
    costs = lambda _: [{NAME: Estimate(2.0, 1.3, 3.0, "host-calibrated")}]  # noqa: E731
    target = SimpleNamespace(export=lambda *_: tmp_path / "plain.onnx")
    prepared = SimpleNamespace(experiment=experiment, graph=graph, costs=costs, target=target, model=None, task=SimpleNamespace(example_inputs={}))

    def measure(own, plain):
        times = iter(zip(own, plain, strict=True))

        def bench(model, *options):
            assert options[options.index("--threads") + 1] == "1"
            mine, its = next(times)
            return {"latency_ms": {"median": mine}, "against": {"latency_ms": {"median": its}}}

        monkeypatch.setattr("search.host_latency.bench", bench)
        host = HostLatency(prepared)
        found = host.measure(tmp_path / "model.onnx", PROMISED)
        host.close()
        return found

    return measure


@pytest.mark.parametrize(
    ("own", "plain", "kept"),
    [
        ((1.2, 1.4, 9.0), (2.0, 2.1, 2.2), True),  # one of three processes was disturbed
        ((0.1, 0.1, 0.1), (2.0, 2.0, 2.0), True),  # faster than promised
        ((1.6, 1.7, 1.8), (2.0, 2.1, 2.2), False),
        ((1.6, 1.7, 1.8), (3.1, 3.2, 3.3), True),  # the uncompressed model is as far off: the machine is busy
    ],
)
def test_a_model_is_judged_by_its_interval_where_the_machine_is_as_it_was(host, own, plain, kept):
    found, reasons = host(own, plain)
    assert found == {NAME: sorted(own)[1]}
    assert reasons == ([] if kept else [f"{NAME}: promised 1 ms, at most 1.5; found 1.7"])
