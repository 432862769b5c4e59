from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from compressors.errors import UserError
from compressors.graph import ModelGraph
from evaluators.devices.calibration.anchors import Anchor, Candidate, add_anchors, anchors_path, forget_anchors, kept_anchors, read_anchors, written_key
from evaluators.devices.names import parse_device

KEY = parse_device("pixel-7/litert")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))


def anchor(graph: ModelGraph, latency_ms: float = 12.3, **changes: Any) -> Anchor:
    return Anchor(
        model="a study 0001", source="bench.json", graph=graph.fingerprint, candidate=Candidate.of(graph.baseline()), latency_ms=latency_ms, **changes
    )


def test_a_candidate_comes_back_as_it_was(graph: ModelGraph) -> None:
    baseline = graph.baseline()
    again = Candidate.of(baseline)
    assert again.fits(graph)
    for name in Candidate.model_fields:
        np.testing.assert_array_equal(getattr(again.shapes(), name), getattr(baseline, name))
    assert not Candidate(widths=(1,), weight_bits=(), activation_bits=(), granularity=(), symmetric=(), dynamic=False).fits(graph)


def test_anchors_are_kept_by_device_and_measured_again_they_are_replaced(graph: ModelGraph) -> None:
    first, again = anchor(graph), anchor(graph, 11.0, watts=2.5)
    assert add_anchors(KEY, (first,)) == (first,)
    assert add_anchors(KEY, (again,)) == (again,)
    assert read_anchors(KEY) == (again,)
    assert kept_anchors("pixel-7") == {written_key(KEY): (again,)}
    assert read_anchors(parse_device("pixel-7/onnxruntime")) == ()
    assert kept_anchors("galaxy-s24") == {}
    assert forget_anchors(KEY)
    assert not forget_anchors(KEY)
    assert read_anchors(KEY) == ()


def test_the_default_number_of_threads_is_the_same_written_out(graph: ModelGraph) -> None:
    key = written_key(parse_device("raspberry-pi-5/onnxruntime"))
    assert key == "raspberry-pi-5.cpu/onnxruntime:4t" == written_key(parse_device("raspberry-pi-5/onnxruntime:4t"))
    assert written_key(parse_device(key)) == key
    assert written_key(parse_device("raspberry-pi-5/onnxruntime:1t")) != key
    assert written_key(parse_device("galaxy-s24.npu/litert")) == "galaxy-s24.npu/litert"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"anchors_version": 99}, "anchors_version is 99; accepted: 1"),
        ({"device": "pixel-8.cpu/litert:2t"}, "they are of 'pixel-8.cpu/litert:2t', not of 'pixel-7.cpu/litert:2t'"),
        ({"anchors": [{"model": "x"}]}, "anchors.0.source: Field required"),
    ],
)
def test_a_file_that_is_not_right_is_named(graph: ModelGraph, change: dict[str, Any], said: str) -> None:
    add_anchors(KEY, (anchor(graph),))
    path = anchors_path(KEY)
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **change}))
    with pytest.raises(UserError) as error:
        read_anchors(KEY)
    assert str(path) in str(error.value)
    assert said in str(error.value)
    assert forget_anchors(KEY), "a damaged file can be dropped"


def test_a_latency_must_be_positive(graph: ModelGraph) -> None:
    with pytest.raises(ValueError, match="greater than 0"):
        anchor(graph, -1.0)
