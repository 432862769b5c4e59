import argparse
import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from search import bench, bench_models

SCRIPT = Path(bench.__file__)


def run(*options):
    ended = subprocess.run([sys.executable, "-P", str(SCRIPT), *map(str, options)], capture_output=True, text=True, check=False)
    return ended, json.loads(ended.stdout) if ended.returncode == 0 else None


@pytest.mark.parametrize("name", ["bench.py", "bench_models.py", "ladder_run.py"])
def test_it_is_valid_for_the_oldest_python_that_it_names(name):
    text = SCRIPT.with_name(name).read_text()
    ast.parse(text, feature_version=(3, 9))
    imported = {alias.name.partition(".")[0] for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module.partition(".")[0] for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    # The other half is beside it, or both are parts of this installation.
    assert imported - {"numpy", "bench_models", "search"} <= set(sys.stdlib_module_names)


def test_the_copy_in_an_artifact_says_what_the_device_needs_to_know(artifact):
    ended = subprocess.run([sys.executable, str(artifact / "bench.py"), "--seconds", "0"], capture_output=True, text=True, check=True)
    found = json.loads(ended.stdout)
    assert found["latency_ms"]["min"] <= found["latency_ms"]["median"] <= found["latency_ms"]["p90"]
    assert found["load_ms"] > found["session_ms"] > 0
    assert 10e6 < found["peak_memory_bytes"] < 1e9, "of a process without torch"
    assert found["outputs"] == {"examples": 8, "largest_difference": 0.0, "relative_difference": 0.0, "same_best_class": 1.0}
    assert (found["threads"], found["batch"], found["provider"]) == (1, 1, "CPUExecutionProvider")


def test_two_models_take_turns(artifact):
    model = artifact / "model.onnx"
    _, found = run("--model", model, "--examples", artifact / "examples.npz", "--against", model, "--seconds", "0", "--brief", "--batch", "3")
    assert found["latency_ms"]["runs"] == found["against"]["latency_ms"]["runs"] == bench.FEWEST
    assert found["ratio"] == pytest.approx(found["latency_ms"]["median"] / found["against"]["latency_ms"]["median"])
    assert found["batch"] == 3
    assert "load_ms" not in found


@pytest.mark.parametrize("alone", [True, False])
def test_a_model_that_takes_turns_does_not_spin_into_the_run_of_another(artifact, alone):
    options = bench.open_model(artifact / "model.onnx", 2, alone=alone).session.get_session_options()
    if alone:
        with pytest.raises(RuntimeError, match="force_spinning_stop"):
            options.get_session_config_entry("session.force_spinning_stop")
    else:
        assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.parametrize(("against", "alone"), [([], [True]), (["model.onnx"], [False, False])])
def test_of_two_models_none_is_alone(artifact, monkeypatch, against, alone):
    opened = []

    def seen(*args, **options):
        opened.append(options["alone"])
        return bench_models.open_model(*args, **options)

    monkeypatch.setattr(bench, "open_model", seen)
    model = artifact / "model.onnx"
    given = {"examples": artifact / "examples.npz", "against": artifact / against[0] if against else None, "against_examples": None}
    bench.measure(argparse.Namespace(model=model, **given, brief=True, threads=1, provider="cpu", batch=1, seconds=0))
    assert opened == alone


def test_the_parents_memory_is_not_the_models(artifact):
    held = np.ones(40_000_000)
    _, found = run("--model", artifact / "model.onnx", "--examples", artifact / "examples.npz", "--seconds", "0")
    assert found["peak_memory_bytes"] < held.nbytes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--provider", "quantum"], "--provider 'quantum' is not in this onnxruntime; present: "),
        (["--model", "model.bin"], "model.bin has no known format; accepted: .onnx, .stages, .tflite, .pte"),
        (["--model", "nothing.onnx"], "nothing.onnx"),
    ],
)
def test_mistakes_are_one_line(artifact, change, said):
    ended, _ = run("--model", artifact / "model.onnx", "--examples", artifact / "examples.npz", "--seconds", "0", *change)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_missing_runtime_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(ImportError, match="pip install ai-edge-litert"):
        bench.open_model(Path("model.tflite"))


def test_integers_at_the_edge_of_a_model_are_quantized_and_back():
    details = {"quantization": (0.5, -3), "dtype": np.int8}
    stored = bench_models.to_stored(np.array([0.0, 1.0, 1000.0]), details)
    np.testing.assert_array_equal(stored, [-3, -1, 127])
    np.testing.assert_allclose(bench_models.from_stored(stored, details), [0.0, 1.0, 65.0])
    plain = {"quantization": (0.0, 0), "dtype": np.int32}
    assert bench_models.to_stored(np.array([5], dtype=np.int64), plain).dtype == np.int32


def test_a_model_of_one_batch_runs_any_number_of_examples():
    seen = []

    def doubled(inputs):
        seen.append(len(inputs["x"]))
        return 2 * inputs["x"]

    values = np.arange(7.0)[:, None]
    np.testing.assert_array_equal(bench_models.in_pieces(doubled, {"x": values}, 3), 2 * values)
    assert seen == [3, 3, 3]


def test_another_shape_of_outputs_is_no_match(artifact, tmp_path):
    inputs, logits = bench.read_examples(artifact / "examples.npz")
    np.savez(tmp_path / "examples.npz", logits=logits[:, :3], **{f"input.{k}": v for k, v in inputs.items()})
    shutil.copy(artifact / "model.onnx", tmp_path)
    _, found = run("--model", tmp_path / "model.onnx", "--examples", tmp_path / "examples.npz", "--seconds", "0", "--brief")
    assert found["outputs"]["relative_difference"] is None
    assert found["outputs"]["expected_shape"] == [8, 3]
