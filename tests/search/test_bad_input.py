"""Mistakes of a user, through the command line: exit code 2, one message that says what and where, no traceback."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from compressors.errors import UserError
from search.cli import main
from search.experiment import Experiment
from search.record import TrialRecord
from search.study import Study

FACTORY = """
import torch
from torch import nn


def small(outputs: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, outputs))


def raises() -> nn.Module:
    raise ValueError("the weights are in another castle")


def too_few() -> nn.Module:
    return small(7)
"""

EXPERIMENT: dict[str, Any] = {
    "model": {"factory": "models.py:small"},
    "data": {"dataset": "sklearn/digits"},
    "devices": ["raspberry-pi-5/onnxruntime"],
    "objectives": ["accuracy", "latency_ms@raspberry-pi-5"],
    "recipe": [{"prune": {"ratio": {"channels": {"uniform": [0.0, 0.5]}}}}, {"quantize": {"weight_bits": {"choice": [4, 8]}}}],
    "search": {"trials": 2},
}


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("search.cli.quiet_libraries", lambda: None)
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path / "cache"))
    for constants in ("huggingface_hub.constants", "datasets.config"):
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", True)
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "models.py").write_text(FACTORY)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    return path


def refused(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    code = main([str(a) for a in argv])
    printed = capsys.readouterr()
    assert code == 2, printed
    assert [line.startswith("error: ") for line in printed.err.splitlines()].count(True) == 1
    assert "Traceback" not in printed.err + printed.out
    return printed.err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("modle=1", "modle: unknown key 'modle'"),
        ("search.trials=many", "search.trials: 'many' is not accepted; accepted: a valid integer"),
        ("recipe[0].prune.ratio={uniform: [0.8, 0.1]}", "recipe[0].prune.ratio: low 0.8 is above high 0.1; accepted: low <= high"),
        ("devices[0]=raspberry-pi-6", "devices[0]: "),
        ("devices[0]=raspberry-pi-5/onxruntime", "devices[0]: "),
        ("target=onxruntime", "did you mean 'onnxruntime'"),
        ("objectives[0]=acuracy", "objectives[0]: unknown metric 'acuracy'"),
        ("recipe[0].prune.criterion=l7", "recipe[0].prune.criterion: 'l7' is not accepted; accepted: 'l1'"),
        ("recipe[1]={quantise: {}}", "recipe[1]: unknown step 'quantise'"),
        ("recipe[0].prune.exclude=[hed.*]", "recipe[0].prune.exclude: 'hed.*' matches nothing"),
        ("recipe[0].prune.ratio={heads: 0.5}", "recipe[0].prune.ratio.heads: the model has no prunable axis of kind 'heads'"),
        ("objectives[1]=latency_ms@a100", "objectives[1]: device 'a100' is not listed under devices"),
        ("model.factory=nowhere.py:small", "nowhere.py"),
        ("model.factory=models.py:smal", "smal"),
        ("model.weights=nowhere.safetensors", "nowhere.safetensors"),
        ("model.factory=models.py:raises", "the weights are in another castle"),
        ("model.factory=models.py:too_few", "7 labels, the data 10 classes"),
        ("data.splits={report: test}", "data.splits.report: no source split 'test'; present: all"),
        ("data.columns={label: digit}", "data.columns.label: no column 'digit' in split 'all'; present: image, label"),
        ("data={files: {train: nowhere.csv}}", "data.files.train: no file"),
        ("data={files: {train: empty.csv}}", "empty.csv"),
        ("data.dataset=nobody/nothing", "data.dataset: 'nobody/nothing' is no folder here, and the hub cannot be reached"),
        ("model={pretrained: nobody/nothing}", "'nobody/nothing'"),
    ],
)
def test_experiments_with_a_mistake(experiment: Path, capsys: pytest.CaptureFixture[str], override: str, said: str) -> None:
    assert said in refused(capsys, "check", experiment, "--set", override)


def test_a_missing_experiment_file(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no experiment file" in refused(capsys, "check", experiment.parent / "nowhere.yaml")


def test_an_override_that_is_not_one(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "accepted: key=value" in refused(capsys, "check", experiment, "--set", "search.trials")


def test_a_search_for_what_the_model_does_not_have_trains_nothing(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(capsys, *searching(experiment, "--set", "recipe[0].prune.exclude=[hed.*]"))
    assert "recipe[0].prune.exclude: 'hed.*' matches nothing" in message
    assert not list((experiment.parent / "studies").iterdir()), "the name is free for the next try"


def test_resume_needs_a_name(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--resume needs --name" in refused(capsys, "search", experiment, "--resume")


def test_a_command_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serach"])
    assert caught.value.code == 2
    assert "invalid choice: 'serach'" in capsys.readouterr().err


def frozen_study(experiment: Path, *overrides: str) -> Path:
    """A study's folder as a search that was killed at once leaves it."""
    study = experiment.parent / "studies" / "mine"
    for part in ("records", "reports", "pending"):
        (study / part).mkdir(parents=True)
    (study / "experiment.yaml").write_text(Experiment.load(experiment, overrides).to_yaml())
    return study


def searching(experiment: Path, *more: str) -> tuple[str, ...]:
    return ("search", str(experiment), "--storage", str(experiment.parent / "studies"), "--name", "mine", *more)


def test_a_study_name_that_exists(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = frozen_study(experiment)
    (study / "records" / "0001.json").write_text(TrialRecord("0001", [], "ok").to_json())
    before = sorted(study.rglob("*"))
    assert "'mine' exists" in refused(capsys, *searching(experiment))
    assert sorted(study.rglob("*")) == before


def test_resuming_a_study_that_is_not_there(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no study 'mine'" in refused(capsys, *searching(experiment, "--resume"))


def test_resuming_another_experiments_study(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frozen_study(experiment, "data.max_samples=100")
    message = refused(capsys, *searching(experiment, "--resume"))
    assert "is of another experiment: data differ" in message


def test_a_corrupt_record_is_named_and_kept(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = frozen_study(experiment) / "records" / "0001.json"
    record.write_text("{not json")
    assert "0001.json" in refused(capsys, *searching(experiment, "--resume"))
    assert record.read_text() == "{not json"


def test_a_storage_that_cannot_be_written(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (experiment.parent / "studies").touch()
    assert "cannot write the study" in refused(capsys, *searching(experiment))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "cluster"])
def test_a_cluster_that_cannot_be_reached(experiment: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    message = refused(capsys, *searching(experiment, "--address", address))
    assert f"--address {address!r}" in message
    assert not (experiment.parent / "studies").exists()


def test_a_cluster_that_cannot_be_reached_from_python(experiment: Path) -> None:
    with pytest.raises(UserError, match=r"--address '127\.0\.0\.1:1': no Ray cluster can be reached"):
        Study(Experiment.load(experiment), name="mine", storage=experiment.parent / "studies", address="127.0.0.1:1").run()
    assert not (experiment.parent / "studies").exists()
