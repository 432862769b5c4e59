"""One model, several data sets: what is trained on, and what is measured."""

import json
import math

import numpy as np
import pytest
import torch

from evaluators.model_spec import ModelSpec
from evaluators.models import load_model
from evaluators.tasks import DataSpec, Workload, make_task
from evaluators.tasks.array_task import module_predict
from evaluators.tasks.intervals import paired_difference
from evaluators.tasks.several_tasks import interleaved

FACTORY = """
from torch import nn

class Flat(nn.Module):
    def __init__(self, outputs=2):
        super().__init__()
        self.head = nn.Linear(4, outputs)
    def forward(self, track):
        return self.head(track.flatten(1))
"""
MODEL = ModelSpec(factory="models.py:Flat", task="series-classification")


def rows(count, seed, noise):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count)
    track = (rng.standard_normal((count, 4)) * noise + label[:, None]).round(6)
    return [{"track": one.tolist(), "label": int(which)} for one, which in zip(track, label, strict=True)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models.py").write_text(FACTORY)
    for name, made in {"clean": rows(200, 1, 0.5), "noisy": rows(80, 2, 2.0)}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, made)))
    return tmp_path


def spec(**more):
    parts = {"clean": {"files": {"all": "clean.jsonl"}}, "noisy": {"files": {"all": "noisy.jsonl"}, "metrics": ["f1_macro", "accuracy"]}}
    for part, values in more.pop("also", {}).items():
        parts[part] |= values
    return DataSpec(parts=parts, columns={"series": "track"}, **more)


def made(folder, model=MODEL, **more):
    return make_task(spec(**more), model, Workload(), folder)


def model_of(folder, task, seed=0):
    model = load_model(MODEL, folder, task)
    torch.manual_seed(seed)
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[-1.0], [1.0]]) + 0.4 * torch.randn(2, 4))
        model.head.bias.copy_(torch.tensor([1.0, -1.0]))
    return module_predict(model)


def test_the_average_is_the_mean_of_what_each_part_measures_alone(folder):
    task = made(folder)
    found = task.metrics(model_of(folder, task), "report")
    assert [metric.name for metric in task.quality] == list(found)
    assert list(found) == ["average", "clean.accuracy", "clean.loss", "noisy.f1_macro", "noisy.accuracy", "noisy.loss"]
    for part, data in spec().each.items():
        alone = make_task(data, MODEL, Workload(), folder)
        for name, estimate in alone.metrics(model_of(folder, alone), "report").items():
            assert found[f"{part}.{name}"] == estimate
    assert 0.5 < found["noisy.f1_macro"].value < found["clean.accuracy"].value < 1
    assert found["average"].value == pytest.approx((found["clean.accuracy"].value + found["noisy.f1_macro"].value) / 2)


def test_the_interval_of_the_average_is_that_of_independent_parts_and_of_its_contributions(folder):
    task = made(folder)
    predict = model_of(folder, task)
    found, values = task.metrics(predict, "report"), task.per_example(predict, "report")["average"]
    parts = [found["clean.accuracy"], found["noisy.f1_macro"]]
    assert found["average"].high - found["average"].value == pytest.approx(math.hypot(*(e.high - e.value for e in parts)) / 2)
    assert found["average"].value - found["average"].low == pytest.approx(math.hypot(*(e.value - e.low for e in parts)) / 2)
    assert len(values) == sum(task.parts[part].examples("report") for part in task.parts) == 70
    assert values.mean() == pytest.approx(found["average"].value)
    assert 1.645 * values.std() / math.sqrt(len(values)) == pytest.approx((found["average"].high - found["average"].low) / 2, rel=0.15)


def test_two_models_are_compared_on_the_same_examples_of_each_part(folder):
    task = made(folder)
    one, other = (task.per_example(model_of(folder, task, seed), "report") for seed in (0, 1))
    difference = paired_difference(one["average"], other["average"])
    apart = task.summarise(one)["average"], task.summarise(other)["average"]
    assert difference.value == pytest.approx(apart[0].value - apart[1].value)
    each = [paired_difference(one[name], other[name]) for name in ("clean.accuracy", "noisy.f1_macro")]
    assert difference.high - difference.low == pytest.approx(math.hypot(*(e.high - e.low for e in each)) / 2, rel=0.1)
    assert difference.high - difference.low < math.hypot(*(e.high - e.low for e in apart))


def test_training_has_each_example_of_every_part_once_or_as_often_as_its_weight_says(folder):
    def seen(task):
        return np.concatenate([batch.inputs["track"].numpy() for batch in task.batches("train", seed=3)])

    counts = {}
    for weight in (1, 2.5, 0.5):
        found, times = np.unique(seen(made(folder, also={"noisy": {"weight": weight}})), axis=0, return_counts=True)
        own = {name: {tuple(row) for row in make_task(data, MODEL, Workload(), folder).arrays["train"]["track"].tolist()} for name, data in spec().each.items()}
        of_row = dict(zip(map(tuple, found.tolist()), times.tolist(), strict=True))
        assert all(of_row[row] == 1 for row in own["clean"])
        counts[weight] = [of_row.get(row, 0) for row in own["noisy"]]
        assert len(of_row) == len(own["clean"]) + sum(count > 0 for count in counts[weight])
    assert set(counts[1]) == {1}
    assert {n: counts[2.5].count(n) for n in set(counts[2.5])} == {2: 24, 3: 24}
    assert {n: counts[0.5].count(n) for n in set(counts[0.5])} == {0: 24, 1: 24}


def test_calibration_is_drawn_in_the_shares_of_training_and_any_stretch_has_all_parts(folder):
    task = made(folder, also={"clean": {"weight": 4}})
    clean, noisy = (set(map(tuple, task.parts[name].arrays["report"]["track"].tolist())) for name in ("clean", "noisy"))
    first = [tuple(row) for row in task.raw("report", 0, 14)[0]["track"].tolist()]
    assert (sum(row in clean for row in first), sum(row in noisy for row in first)) == (10, 4)
    assert task.examples("calibration") == 120 + round(256 * 48 / 528)
    assert made(folder, also={"noisy": {"splits": {"calibration": {"from": "all", "skip": 40}}}}).examples("calibration") == 120 + 40


def test_what_is_drawn_measured_or_weighted_differently_has_another_fingerprint(folder):
    changes = [{}, {"noisy": {"weight": 2}}, {"noisy": {"metrics": ["accuracy"]}}, {"clean": {"seed": 1}}, {"clean": {"max_samples": 100}}]
    prints = [made(folder, also=change).fingerprint for change in changes]
    assert len(set(prints)) == len(prints)
    assert made(folder).fingerprint == prints[0]


def test_progress_is_told_by_the_average(folder):
    task = made(folder)
    name, value = task.score(load_model(MODEL, folder, task), "search")
    assert name == "average"
    assert value == pytest.approx(task.metrics(module_predict(load_model(MODEL, folder, task)), "search")["average"].value)


def test_outputs_that_there_are_are_judged_as_if_they_were_asked_for(folder):
    task = made(folder)
    predict = model_of(folder, task)
    rows = np.random.default_rng(0).permutation(70)
    outputs = predict(task.prepare({name: values[rows] for name, values in task.raw("report")[0].items()}))["logits"]
    told = task.summarise(task.of_outputs(outputs, "report", rows))
    assert told["average"].value == pytest.approx(task.metrics(predict, "report")["average"].value)
    assert told["clean.loss"].value == pytest.approx(task.metrics(predict, "report")["clean.loss"].value)
    assert task.of_outputs(outputs[:1], "report", rows[:1]) == {}, "one example says nothing of two parts"


def test_lists_are_spread_evenly_in_every_stretch():
    lists, places = interleaved([6, 2, 1])
    assert sorted(zip(lists.tolist(), places.tolist(), strict=True)) == [(0, i) for i in range(6)] + [(1, 0), (1, 1), (2, 0)]
    assert [places[lists == i].tolist() for i in range(3)] == [list(range(6)), [0, 1], [0]]
    assert [(lists[:n] == 0).sum() for n in (3, 6)] == [2, 4]
