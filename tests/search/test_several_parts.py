"""An experiment whose data has several parts, from its file to a published front and an artifact."""

import json
import shutil

import numpy as np
import pytest

import compareto as cp
from compressors.recipe import Recipe
from search.cache import Cache
from search.check import check
from search.evidence import read_promised, write_promised
from search.example_scores import unpack
from search.experiment import Experiment
from search.preparing import prepare
from search.sensitivity import profile
from search.stages import StageRunner

FACTORY = """
import torch
from torch import nn

class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(4, 16)
        self.head = nn.Linear(16, 2)
    def forward(self, track):
        return self.head(torch.relu(self.hidden(track)))
"""
EXPERIMENT = """
model: {factory: "models.py:Flat", task: series-classification}
data:
  columns: {series: track}
  parts:
    clean: {files: {all: clean.jsonl}}
    noisy: {files: {all: noisy.jsonl}, metrics: [f1_macro, accuracy], weight: 2}
fit: {epochs: 20, learning_rate: 0.03}
devices: [raspberry-pi-5/onnxruntime]
objectives: [average, "latency_ms@raspberry-pi-5/onnxruntime", size_bytes]
constraints: ["average >= baseline - 0.2", "noisy.f1_macro >= 0.1"]
recipe:
  - prune: {ratio: {ffn: {uniform: [0.0, 0.8]}}}
search: {trials: 4}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("several")
    (folder / "models.py").write_text(FACTORY)
    (folder / "two.yaml").write_text(EXPERIMENT)
    rng = np.random.default_rng(0)
    for name, noise, count in (("clean", 0.4, 200), ("noisy", 1.5, 120)):
        label = rng.integers(0, 2, count)
        track = rng.standard_normal((count, 4)) * noise + label[:, None]
        rows = [{"track": one.tolist(), "label": int(which)} for one, which in zip(track, label, strict=True)]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "two.yaml"


@pytest.fixture(scope="module")
def runner(file, tmp_path_factory):
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return StageRunner(prepare(Experiment.load(file), cache, lambda _: None), cache)


def test_check_names_what_there_is(file):
    lines = check(Experiment.load(file))
    assert "data: train 264, calibration 188, search 48, report 80 examples" in lines


def test_a_recipe_is_measured_on_every_part(runner):
    outcome = runner.run(Recipe.from_plain([{"prune": {"ratio": {"ffn": 0.5}}}]))
    found = outcome.metrics
    assert found["average"].value == pytest.approx((found["clean.accuracy"].value + found["noisy.f1_macro"].value) / 2)
    assert found["average"].low < found["average"].value < found["average"].high
    assert found["clean.accuracy"].value > 0.8, "it was fitted"
    published = runner.run(Recipe.from_plain([{"prune": {"ratio": {"ffn": 0.5}}}]), split="report")
    kept = unpack(published.examples)
    assert len(kept) == 80
    assert kept.mean() == pytest.approx(published.metrics["average"].value, abs=1e-6)


def test_sensitivities_are_of_the_average(runner):
    found = profile(runner, "l2", lambda _: None)
    assert (found.metric.name, found.examples) == ("average", 48)
    assert all(cut.lost.low <= cut.lost.value <= cut.lost.high for cut in found.cuts)


def test_what_an_artifact_promises_is_kept_for_the_average_and_each_part(runner, tmp_path):
    write_promised(tmp_path, runner.prepared.task, runner.prepared.model)
    found = read_promised(tmp_path)
    lengths = {"average": 80, "clean.accuracy": 50, "clean.loss": 50, "noisy.f1_macro": 30, "noisy.accuracy": 30, "noisy.loss": 30}
    assert {name: len(values) for name, values in found.items()} == lengths


def test_the_data_key_holds_every_part(file, runner):
    other = file.parent / "other"
    shutil.copytree(file.parent, other, ignore=shutil.ignore_patterns("other"))
    rows = (other / "noisy.jsonl").read_text().splitlines()
    (other / "noisy.jsonl").write_text("\n".join([*rows[1:], rows[0]]))
    experiment = Experiment.load(other / "two.yaml")
    key = prepare(experiment, Cache(other / "cache"), lambda _: None).data_key
    assert key != runner.prepared.data_key


def test_an_average_of_accuracies_is_told_and_kept_like_an_accuracy(file):
    from search.figures import change, figure
    from search.verification import keeps

    average = Experiment.load(file, ["data.parts.noisy.metrics=[accuracy]", "constraints=[]"]).names.quality[0]
    assert (figure(average, 0.8125), change(average, 0.9, 0.89)) == ("81.2 %", "average -1.0 points")
    assert keeps(average, 0.9, 0.895)
    assert not keeps(average, 0.9, 0.89)
    assert figure(Experiment.load(file).names.quality[0], 0.8125) == "0.812"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ('objectives=["accuracy"]', "unknown metric 'accuracy'; accepted: average, clean.accuracy, clean.loss, noisy.f1_macro"),
        ('constraints=["news.accuracy >= 0.8"]', "unknown metric 'news.accuracy'"),
        ("data.parts={}", "data: parts: {} names no data set"),
        ("data.parts.noisy.task=series-regression", "data.parts.noisy.task: unknown key 'task'; accepted: dataset, files, columns, splits, max_samples"),
        ("data.parts.noisy.preprocessing={}", "data.parts.noisy.preprocessing: unknown key 'preprocessing'"),
        ("data.parts.noisy.weight=-1", "data.parts.noisy.weight: -1 is not accepted; accepted: greater than 0"),
        ("data.parts.noisy.metrics=[loss]", "accuracy of clean (max) and loss of noisy (min, nats) have no average"),
    ],
)
def test_an_experiment_that_cannot_be_is_one_message(file, changed, said):
    with pytest.raises(cp.UserError) as caught:
        Experiment.load(file, [changed])
    assert said in str(caught.value)


def test_an_experiment_comes_back_from_what_a_study_keeps(file):
    experiment = Experiment.load(file)
    again = Experiment.from_plain(experiment.to_plain())
    assert again.fingerprint == experiment.fingerprint
    assert again.data.each == experiment.data.each
    assert "parts" not in Experiment.load("quickstart").to_plain()["data"]
