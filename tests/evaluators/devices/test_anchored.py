from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors.graph import ModelGraph, Shapes, trace
from compressors.targets import target_named
from evaluators.devices import device_named
from evaluators.devices.anchored import Anchored, anchored
from evaluators.devices.calibration.anchors import Anchor, Candidate
from evaluators.devices.calibration.correction import with_factors
from evaluators.devices.device_model import DeviceModel
from evaluators.devices.energy import Powered
from evaluators.devices.names import parse_device
from evaluators.devices.profile import load_profile
from evaluators.devices.registry import budget_of, spec_model
from evaluators.devices.roofline import Roofline

DEVICE = "raspberry-pi-4/onnxruntime:1t"


@pytest.fixture(scope="module")
def network() -> ModelGraph:
    """Convolutions, then linear layers, each about half of the time."""
    torch.manual_seed(0)
    body = (nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    return trace(nn.Sequential(*body, nn.Linear(4096, 512), nn.ReLU(), nn.Linear(512, 10)).eval(), (torch.zeros(1, 3, 16, 16),))


def plain() -> Powered:
    key = parse_device(DEVICE)
    return Powered(spec_model(key), budget_of(load_profile(key.device)))


def really(**factors: float) -> DeviceModel:
    """The device as it is: some classes of kernels are slower than the profile says."""
    model = plain()
    assert isinstance(model.model, Roofline)
    groups = [name.replace("_", ":", 1) for name in factors]
    return replace(model, model=replace(model.model, rates=with_factors(model.model.rates, groups, np.log(list(factors.values())))))


def variant(graph: ModelGraph, share: float, bits: int = 32) -> Shapes:
    """All that can be cut is cut to a share."""
    base = graph.baseline()
    widths = np.array([[a.size if a.fixed else max(1, int(a.size * share)) for a in graph.axes]])
    return replace(base, widths=widths, weight_bits=np.full_like(base.weight_bits, bits), activation_bits=np.full_like(base.activation_bits, bits))


def anchors(graph: ModelGraph, truth: DeviceModel, *shapes: Shapes, watts: float | None = None) -> list[Anchor]:
    found = [float(truth.cost(graph, one)["latency_ms"].value[0]) for one in shapes]
    return [
        Anchor(model="m", source="s", graph=graph.fingerprint, candidate=Candidate.of(one), latency_ms=ms, watts=watts)
        for one, ms in zip(shapes, found, strict=True)
    ]


def width(costs: dict[str, Any], name: str = "latency_ms") -> float:
    return float(costs[name].high[0] / costs[name].low[0])


def test_one_anchor_scales_the_variants_of_its_model_and_narrows_the_interval(network: ModelGraph) -> None:
    truth = really(**{f"{c}_fp32": 1.8 for c in ("conv3x3", "gemm", "pooling")})
    model = anchored(plain(), anchors(network, truth, variant(network, 1.0)))
    for share in (1.0, 0.7, 0.4):
        one = variant(network, share)
        found, expected, before = (m.cost(network, one) for m in (model, truth, plain()))
        assert found["latency_ms"].value[0] == pytest.approx(expected["latency_ms"].value[0], rel=0.08)
        assert abs(found["latency_ms"].value[0] - before["latency_ms"].value[0]) > 0.4 * before["latency_ms"].value[0]
        assert width(found) < 0.85 * width(before)
        assert found["latency_ms"].tier == "public-calibrated"


def test_several_anchors_tell_classes_apart(network: ModelGraph) -> None:
    truth = really(conv3x3_fp32=2.0, gemm_fp32=0.7)
    shapes = [variant(network, share) for share in (1.0, 0.8, 0.5, 0.2)]
    tested = variant(network, 0.35)
    errors = []
    for count in (0, 1, 4):
        model = anchored(plain(), anchors(network, truth, *shapes[:count]))
        found, expected = (m.cost(network, tested)["latency_ms"].value[0] for m in (model, truth))
        errors.append(abs(np.log(found / expected)))
    assert errors[2] < 0.06
    assert errors[2] < errors[1] < errors[0]


def test_arithmetic_that_no_anchor_has_stays_more_uncertain(network: ModelGraph) -> None:
    model = anchored(plain(), anchors(network, really(), variant(network, 1.0), variant(network, 0.5)))
    floats, integers = (model.cost(network, variant(network, 0.6, bits)) for bits in (32, 8))
    assert width(integers) > 1.2 * width(floats)


def test_other_models_are_priced_as_before(network: ModelGraph, graph: ModelGraph) -> None:
    model = anchored(plain(), anchors(network, really(gemm_fp32=3.0), variant(network, 1.0)))
    assert isinstance(model, Anchored)
    before, found = plain().cost(graph, graph.baseline()), model.cost(graph, graph.baseline())
    assert {name: c.estimate(0) for name, c in found.items()} == {name: c.estimate(0) for name, c in before.items()}
    assert anchored(plain(), []).cost(graph, graph.baseline())["latency_ms"].tier == before["latency_ms"].tier


def test_watts_correct_the_energy(network: ModelGraph) -> None:
    whole = variant(network, 1.0)
    (known,) = anchors(network, really(), whole, watts=3.0)
    before, found = plain().cost(network, whole)["energy_mj"], anchored(plain(), [known]).cost(network, whole)["energy_mj"]
    assert found.value[0] == pytest.approx(3.0 * known.latency_ms, rel=0.1)
    assert abs(before.value[0] / (3.0 * known.latency_ms) - 1) > 0.2
    assert found.tier == "public-calibrated"
    assert found.low[0] < found.value[0] < found.high[0]
    assert anchored(plain(), [known.model_copy(update={"watts": None})]).cost(network, whole)["energy_mj"].tier == "spec-only"


def test_a_batch_is_priced_as_its_candidates_are(network: ModelGraph) -> None:
    model = anchored(plain(), anchors(network, really(conv3x3_fp32=1.5), variant(network, 1.0)))
    shapes = [variant(network, share, bits) for share in (0.9, 0.3) for bits in (32, 8)]
    together = model.cost(network, Shapes.concatenate(shapes))["latency_ms"]
    for i, one in enumerate(shapes):
        alone = model.cost(network, one)["latency_ms"]
        assert (together.value[i], together.low[i], together.high[i]) == pytest.approx((alone.value[0], alone.low[0], alone.high[0]))


def test_kept_anchors_are_in_force(network: ModelGraph, own_cache: Callable[[], None]) -> None:
    from evaluators.devices.calibration.anchors import add_anchors

    before = device_named(DEVICE).cost(network, network.baseline())["latency_ms"].value[0]
    add_anchors(parse_device(DEVICE), tuple(anchors(network, really(conv3x3_fp32=2.0, gemm_fp32=2.0), variant(network, 1.0))))
    assert device_named(DEVICE).cost(network, network.baseline())["latency_ms"].value[0] > 1.5 * before
    assert device_named("raspberry-pi-4/onnxruntime").cost(network, network.baseline())["latency_ms"].tier != "public-calibrated"


@pytest.fixture
def own_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))


def test_kernels_are_those_of_the_runtime_of_the_device() -> None:
    for runtime in ("litert", "executorch", "onnxruntime"):
        model = spec_model(parse_device(f"pixel-7/{runtime}"))
        assert isinstance(model, Roofline)
        assert model.target.name == target_named(runtime).name == runtime
