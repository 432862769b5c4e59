"""The file itself: which axes vary, what it says of itself, and where large weights lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compressors.context import logits_of
from compressors.targets import onnx_export
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from tests.conformance.families import build

from .conftest import OneLength


def shapes(path: Path) -> dict[str, list[int | str]]:
    graph = onnx.load(path).graph
    return {v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.input, *graph.output)}


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, inputs = build("llama")
    return OnnxRuntime().export(model, inputs, tmp_path_factory.mktemp("step"))


def test_axes_of_a_step_and_its_cache_have_names(step: Path) -> None:
    found = shapes(step)
    assert found["input_ids"] == ["batch", "sequence"]
    assert found["attention_mask"] == ["batch", "past + sequence"]
    assert found["past_key_values.1.value"] == ["batch", 4, "past", 4]
    assert found["logits"] == ["batch", "sequence", 64]
    assert found["present.1.value"] == ["batch", 4, "past + sequence", 4]
    assert metadata(step)["compareto.longest"] == "64"
    assert [o.version for o in onnx.load(step).opset_import if o.domain == ""] == [onnx_export.OPSET]


def test_a_classifier_reads_texts_of_any_length(tmp_path: Path) -> None:
    model, inputs = build("bert")
    path = OnnxRuntime().export(model, inputs, tmp_path)
    assert shapes(path)["input_ids"] == ["batch", "sequence"]
    session = OnnxSession(path, 1)
    for batch, length in ((1, 1), (3, 33)):
        ids = torch.randint(2, 60, (batch, length))
        mask = torch.ones_like(ids)
        mask[-1, length // 2 + 1 :] = 0
        with torch.no_grad():
            expected = logits_of(model(input_ids=ids, attention_mask=mask)).numpy()
        np.testing.assert_allclose(session({"input_ids": ids.numpy(), "attention_mask": mask.numpy()})["logits"], expected, atol=1e-5)


def test_a_file_for_one_length_says_why(tmp_path: Path) -> None:
    path = OnnxRuntime().export(OneLength().eval(), {"input_ids": torch.randint(0, 20, (2, 5))}, tmp_path)
    assert shapes(path)["input_ids"] == ["batch", 5]
    assert metadata(path)["compareto.note"].startswith("texts keep their length: ")


def test_large_weights_lie_beside_the_graph(step: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, inputs = build("llama")
    monkeypatch.setattr(onnx_export, "EXTERNAL_DATA_BYTES", 4096)
    beside = tmp_path / "model.onnx.data"
    # Of an earlier export into the same folder.
    beside.write_bytes(bytes(100_000))
    path = OnnxRuntime().export(model, inputs, tmp_path)
    assert path.stat().st_size + beside.stat().st_size == pytest.approx(step.stat().st_size, rel=0.1)
    assert OnnxRuntime().file_bytes(path) == OnnxRuntime().file_bytes(step) > beside.stat().st_size * 0.9 > path.stat().st_size * 0.5
    given = {name: value.numpy() for name, value in inputs.items()}
    np.testing.assert_array_equal(OnnxSession(path, 1)(given)["logits"], OnnxSession(step, 1)(given)["logits"])
