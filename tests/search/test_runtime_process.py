import json

import numpy as np
import pytest

from compressors.errors import UnexportableError
from search.bench import read_examples
from search.runtime_process import RuntimeProcess, bench, bench_command


def test_a_process_answers_as_often_as_it_is_asked(artifact):
    inputs, logits = read_examples(artifact / "examples.npz")
    with RuntimeProcess(artifact / "model.onnx") as predict:
        for count in (8, 1, 3):
            found = predict({name: value[:count] for name, value in inputs.items()})
            np.testing.assert_allclose(found["logits"], logits[:count], atol=1e-4)


def test_a_model_that_cannot_be_run_says_why(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with RuntimeProcess(tmp_path / "model.onnx") as predict, pytest.raises(UnexportableError, match=r"model\.onnx"):
        predict({"x": np.zeros(1)})


def test_other_runtimes_are_timed_by_the_same_program(artifact, tmp_path):
    """A runtime that ``bench.py`` does not know is opened through its target; here ONNX Runtime under another suffix."""
    model = tmp_path / "model.other"
    model.write_bytes((artifact / "model.onnx").read_bytes())
    (tmp_path / "signature.json").write_text(json.dumps({"runtime": "onnxruntime"}))
    assert bench_command(model)[-5:] == ["search.target_bench", "onnxruntime", str(tmp_path), "--model", str(model)]
    found = bench(model, "--seconds", "0", "--threads", "1", examples=artifact / "examples.npz")
    assert found["runtime"] == "onnxruntime"
    assert found["outputs"]["relative_difference"] < 1e-3
    assert found["load_ms"] > 0
