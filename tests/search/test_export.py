import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from compressors.recipe import Recipe
from evaluators.metric import Estimate
from search.artifact import corrupted
from search.cli import main
from search.export import export_trial
from search.lock import RecipeLock

FILES = {
    "README.md",
    "bench.py",
    "bench_models.py",
    "checksums.json",
    "examples.npz",
    "metrics.json",
    "model.onnx",
    "promised.npz",
    "provenance.json",
    "raw",
    "recipe.lock",
    "recipe.yaml",
    "signature.json",
}


def test_an_artifact_has_all_its_files_and_nothing_else(artifact):
    assert {p.name for p in artifact.iterdir()} == FILES
    assert corrupted(artifact) == []
    assert {p.name for p in artifact.parent.iterdir() if p.name.startswith(".")} == set()


def test_recipe_and_lock_are_those_of_the_trial(trained, artifact):
    recipe = Recipe.load(artifact / "recipe.yaml")
    assert recipe.to_plain() == trained.record("0001").recipe
    assert RecipeLock.load(artifact / "recipe.lock").recipe == recipe.fingerprint


def test_the_promised_figures_are_those_of_the_report_split_with_unit_and_tier(trained, artifact):
    metrics = json.loads((artifact / "metrics.json").read_text())
    assert metrics["metrics"]["accuracy"]["value"] == trained.record("0001").report["accuracy"].value
    latency = metrics["metrics"]["latency_ms@raspberry-pi-5/onnxruntime"]
    assert (latency["tier"], latency["unit"], latency["direction"]) == ("transferred", "ms", "min")
    assert metrics["uncompressed"]["parameters"]["value"] > metrics["metrics"]["parameters"]["value"]


def test_a_rebuilt_model_that_is_not_the_studys_is_told(trained, tmp_path):
    record, lines = trained.record("0001"), []
    better = dataclasses.replace(record, report={**record.report, "accuracy": Estimate(0.99, 0.98, 1.0)})
    study = dataclasses.replace(trained, records=tuple(better if r is record else r for r in trained.records))
    folder = export_trial(study, "0001", tmp_path / "artifact", log=lines.append)
    assert json.loads((folder / "metrics.json").read_text())["metrics"]["accuracy"]["value"] == 0.99
    told = [line for line in lines if line.startswith("accuracy on report is ")]
    assert len(told) == 1
    assert f"is {100 * record.report['accuracy'].value:.1f} % in the rebuilt model, 99.0 % in the study" in told[0]


def test_the_model_runs_on_any_batch_and_gives_the_expected_outputs(artifact):
    import onnxruntime

    signature = json.loads((artifact / "signature.json").read_text())
    session = onnxruntime.InferenceSession(str(artifact / signature["model"]))
    with np.load(artifact / "examples.npz") as examples:
        ((name, described),) = signature["inputs"].items()
        inputs, logits = examples[f"input.{name}"], examples["logits"]
    assert described["shape"][0] == "batch"
    assert described["dtype"] == str(inputs.dtype)
    for count in (1, 3, 8):
        np.testing.assert_allclose(session.run(None, {name: inputs[:count]})[0], logits[:count], atol=1e-4)
    assert len(signature["labels"]) == logits.shape[-1]


def test_raw_inputs_become_model_inputs_as_the_signature_says(trained, artifact):
    from evaluators.tasks import make_task

    experiment = trained.experiment
    task = make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)
    signature = json.loads((artifact / "signature.json").read_text())["preprocessing"]
    raw, _ = task.raw("report", 0, 8)
    mean, std = (np.asarray(signature[key], dtype=np.float32).reshape(1, -1, 1, 1) for key in ("mean", "std"))
    prepared = (raw[signature["input"]].astype(np.float32) * np.float32(signature["scale"]) - mean) / std
    with np.load(artifact / "examples.npz") as examples:
        np.testing.assert_allclose(prepared, examples[f"input.{signature['input']}"], atol=1e-5)


def test_bench_runs_without_torch(artifact):
    run = f"runpy.run_path({str(artifact / 'bench.py')!r}, run_name='__main__')"
    blocked = f"import sys, runpy; sys.modules['torch'] = None; sys.argv = ['bench.py', '--seconds', '0']; {run}"
    ended = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=True)
    document = json.loads(ended.stdout)
    assert document["latency_ms"]["median"] > 0
    assert document["outputs"]["relative_difference"] < 1e-3


def test_the_card_states_promised_figures_and_the_recipe(trained, artifact):
    card = (artifact / "README.md").read_text()
    assert "| size_bytes |" in card
    assert "spec-only" in card
    assert yaml.safe_load(card.split("```yaml")[1].split("```")[0]) == trained.record("0001").recipe


def test_export_command(trained, tmp_path, capsys):
    out = tmp_path / "new" / "artifact"
    assert main(["export", str(trained.folder), "--pick", "min size_bytes", "--format", "onnx", "--out", str(out)]) == 0
    assert f"compareto verify {out}" in capsys.readouterr().out
    assert {p.name for p in out.iterdir()} == FILES


def test_a_full_or_unwritable_folder_is_refused_and_left_alone(trained, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["export", str(trained.folder), "--trial", "1", "--out", str(tmp_path)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert main(["export", str(trained.folder), "--trial", "1", "--out", str(tmp_path / "mine.txt" / "deeper")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("which", "message"),
    [
        (["--trial", "0003"], "trial 0003 has no model: it ended as diverged (the loss was NaN at step 3)"),
        (["--trial", "0099"], "has no trial '0099'; accepted: 0001, 0002"),
        (["--pick", "min size"], "unknown metric 'size'"),
    ],
)
def test_mistakes(trained, tmp_path, capsys, which, message):
    assert main(["export", str(trained.folder), *which, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onx"], "unknown format 'onx'; accepted: onnx, litert, executorch, torch; did you mean 'onnx'?"),
        (["--raw-images", "nhcw"], "--raw-images: unknown layout 'nhcw'; accepted: nhwc, nchw; did you mean 'nhwc'?"),
    ],
)
def test_an_unknown_format_or_layout(trained, tmp_path, capsys, options, message):
    assert main(["export", str(trained.folder), "--trial", "1", *options, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_of_trial_and_pick_is_needed(trained, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(trained.folder), "--out", "x"])
    assert "one of the arguments --trial --pick --ladder is required" in capsys.readouterr().err
