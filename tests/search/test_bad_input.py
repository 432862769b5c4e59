"""Mistakes of a user, through the command line: exit code 2, one message that says what and where, no traceback."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
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


def number() -> int:
    return 3


def leaves() -> nn.Module:
    raise SystemExit(3)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.head(x.flatten(1))
        return y if y.sum().item() > 0 else -y


class Silent(Branching):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError
"""

EXPERIMENT: dict[str, Any] = {
    "model": {"factory": "models.py:small"},
    "data": {"dataset": "sklearn/digits"},
    "devices": ["raspberry-pi-5/onnxruntime"],
    "objectives": ["accuracy", "latency_ms@raspberry-pi-5"],
    "recipe": [{"prune": {"ratio": {"channels": {"uniform": [0.0, 0.5]}}}}, {"quantize": {"weight_bits": {"choice": [4, 8]}}}],
    "search": {"trials": 2},
}

FILES = {
    "empty.csv": "text,label\n",
    "empty.json": "",
    "bad.json": "{not json",
    "bad.parquet": "not parquet",
    "unlabelled.csv": "image,label\na,0\nb,\nc,1\n",
    "negative.csv": "image,label\na,0\nb,-1\nc,1\n",
    "words.csv": "image,label\na,0\nb,1\nc,1\nd,0\ne,1\n",
    **{f"pictures/{name}/{i}.png": "not a picture" for name in ("one", "two") for i in range(4)},
    "texts/one/a.txt": "hello",
    "weights.pth": "not weights",
    "weights.safetensors": "not weights",
    "broken.yaml": "model: [1,\n",
    "half/config.json": "{}",
}


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("search.cli.quiet_libraries", lambda: None)
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path / "cache"))
    for constants in ("huggingface_hub.constants", "datasets.config"):
        monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", True)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "models.py").write_text(FACTORY)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    return path


def refused(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    code = main([str(a) for a in argv])
    printed = capsys.readouterr()
    assert code == 2, printed
    assert [line.startswith("error: ") for line in printed.err.splitlines()].count(True) == 1
    assert printed.err.startswith("error: ") or argv[0] == "search", "only a search that has begun says something before it"
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
        ("recipe=[{optional: {quantize: {}}}, {prune: {ratio: 0.5}}]", "recipe[1]: prune stands after quantize (recipe[0])"),
        ("recipe=[{optional: {quantize: {}}}, {qat: {epochs: 1}}]", "recipe[1]: qat trains what quantize has made; accepted: a quantize step before it"),
        ("recipe[0].prune.exclude=[hed.*]", "recipe[0].prune.exclude: 'hed.*' matches nothing"),
        ("recipe[0].prune.layers={hed.*: 0.5}", "recipe[0].prune.layers: 'hed.*' matches no prunable axis"),
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
        ("data={files: {train: empty.csv}}", "empty.csv is empty"),
        ("model.factory=:small", "model: factory ':small' names no function; accepted: file.py:function"),
        ("model.factory=no_such_package.models:small", "model.factory: cannot import 'no_such_package.models': ModuleNotFoundError"),
        ("model.arguments={outpts: 3}", "model.factory: models.py:small raises TypeError: small() got an unexpected keyword argument 'outpts'"),
        ("model.factory=models.py:number", "model.factory: models.py:number returns int; accepted: a torch.nn.Module"),
        ("model.factory=models.py:leaves", "model.factory: models.py:leaves raises SystemExit: 3"),
        ("model.factory=models.py:Silent", "model: does not run on an example of the data: NotImplementedError\n"),
        ("model.factory=models.py:Branching", "torch.export cannot trace Branching on (x: [1, 1, 8, 8] float32): its code depends on the value of a tensor"),
        ("model.weights=weights.pth", "weights.pth is neither safetensors nor a state dict that torch.load reads with weights_only"),
        ("model.weights=weights.safetensors", "weights.safetensors is neither safetensors nor a state dict"),
        ("data={files: {train: empty.json}}", "empty.json is empty"),
        ("data={files: {train: bad.json}}", "data.files.train: cannot read"),
        ("data={files: {train: bad.parquet}}", "Parquet magic bytes not found"),
        ("data={files: {train: mine.yaml}}", "data.files.train: mine.yaml has no known format; accepted: .parquet, .csv, .json, .jsonl"),
        ("data={files: {train: unlabelled.csv}}", "data.columns.label: column 'label' has examples without a label"),
        ("data={files: {train: negative.csv}}", "data.columns.label: found the label -1; accepted: texts, or integers from 0"),
        ("data={files: {train: words.csv}}", "data.columns.image: column 'image' of 'train' holds something that is no image"),
        ("data.dataset=texts", "texts holds no images; accepted: a folder of images, one sub-folder a class"),
        ("data.dataset=pictures", "data.columns.image: column 'image' of 'train' holds something that is no image: cannot identify image file"),
        ("data.dataset=./nowhere", "data.dataset: no folder"),
        ("data.splits={reprot: all}", "data: unknown split 'reprot'; accepted: train, calibration, search, report; did you mean 'report'?"),
        ("data.splits={report: {from: all, skip: 9999}}", "data.splits.report: no example is left; 'all' has 1797, skip is 9999"),
        ("data.splits={report: all}", "data.splits.report: shares 1079 examples with train; keep them apart by skip and take"),
        ("data.preprocessing={mean: [0.1, 0.2]}", "data.preprocessing.mean: 2 values for images with 1 channel; accepted: 1"),
        ("model={pretrained: ./nowhere}", "model.pretrained: no folder"),
        ("model={pretrained: half}", "model.pretrained: cannot load"),
        ("data.dataset=nobody/nothing", "data.dataset: 'nobody/nothing' is no folder here, and the hub cannot be reached"),
        (
            "model={pretrained: nobody/nothing}",
            "model.pretrained: 'nobody/nothing' is no folder here, and the hub cannot be reached; check the name and the network",
        ),
    ],
)
def test_experiments_with_a_mistake(experiment: Path, capsys: pytest.CaptureFixture[str], override: str, said: str) -> None:
    assert said in refused(capsys, "check", experiment, "--set", override)


def test_a_missing_experiment_file(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no experiment file" in refused(capsys, "check", experiment.parent / "nowhere.yaml")


@pytest.mark.parametrize(("name", "said"), [("broken.yaml", "broken.yaml is not YAML: "), ("empty.json", "is not an experiment: expected a mapping with")])
def test_a_file_that_is_no_experiment(experiment: Path, capsys: pytest.CaptureFixture[str], name: str, said: str) -> None:
    assert said in refused(capsys, "check", experiment.parent / name)


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


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "/tmp/x"])
def test_a_name_that_would_lie_elsewhere(experiment: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert f"--name {name!r} cannot be a folder of studies" in refused(capsys, *searching(experiment), "--name", name)
    assert not (experiment.parent / "studies").exists()


@pytest.mark.parametrize("command", [("front",), ("report",), ("export", "--pick", "knee", "--format", "onnx", "--out", "o")])
def test_a_corrupt_record_is_named_by_every_reader(experiment: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    study = frozen_study(experiment)
    (study / "records" / "0001.json").write_text("{not json")
    message = refused(capsys, command[0], study, *command[1:])
    assert "0001.json is not a valid trial record" in message
    assert "delete it to run that trial again" in message


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature of the base
        pass


def test_something_else_than_a_cluster_answers(experiment: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        message = refused(capsys, *searching(experiment, "--address", f"127.0.0.1:{server.server_port}"))
        thread.join()
    assert "what answers there is not Ray" in message
    assert not (experiment.parent / "studies").exists()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "cluster"])
def test_a_cluster_that_cannot_be_reached(experiment: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    message = refused(capsys, *searching(experiment, "--address", address))
    assert f"--address {address!r}" in message
    assert not (experiment.parent / "studies").exists()


def test_a_cluster_that_cannot_be_reached_from_python(experiment: Path) -> None:
    with pytest.raises(UserError, match=r"--address '127\.0\.0\.1:1': no Ray cluster can be reached"):
        Study(Experiment.load(experiment), name="mine", storage=experiment.parent / "studies", address="127.0.0.1:1").run()
    assert not (experiment.parent / "studies").exists()
