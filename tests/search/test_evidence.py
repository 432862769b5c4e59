import json
from typing import ClassVar

import numpy as np
import pytest

from evaluators.models import load_model
from evaluators.tasks import make_task
from search.evidence import read_promised, write_promised, write_raw
from search.experiment import Experiment
from search.raw_files import read_raw


@pytest.fixture(scope="module")
def digits():
    experiment = Experiment.load("quickstart")
    return experiment, make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)


def test_raw_images_are_those_of_the_report_split_in_order(digits, tmp_path):
    from evaluators.images import decode_image

    experiment, task = digits
    write_raw(tmp_path, experiment, task, count=11)
    found = [decode_image(image, None) for image in read_raw(tmp_path)]
    np.testing.assert_array_equal(np.stack(found), task.raw("report", 0, 11)[0]["image"])


def test_raw_texts_are_those_of_the_report_split_in_order(tmp_path):
    from evaluators.tasks.specification import DataSpec

    rows = [{"text": f"text {i}", "label": i % 2} for i in range(20)]
    (tmp_path / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))

    class Texts:
        data = DataSpec(files={"all": "texts.jsonl"}, splits={"report": {"from": "all", "take": 4}, "search": {"from": "all", "skip": 4, "take": 4}})
        folder = tmp_path

    class Task:
        name = "causal-lm"
        description: ClassVar = {"tokenizer": "words"}

    write_raw(tmp_path, Texts, Task, count=3)
    assert read_raw(tmp_path) == ["text 0", "text 1", "text 2"]


def test_promised_quality_comes_back_example_by_example(digits, tmp_path):
    experiment, task = digits
    write_promised(tmp_path, task, load_model(experiment.model, experiment.folder, task))
    found = read_promised(tmp_path)
    assert {name: len(value) for name, value in found.items()} == {"accuracy": 500, "loss": 500}
    assert set(np.unique(found["accuracy"])) == {0.0, 1.0}
    assert (tmp_path / "promised.npz").stat().st_size < 4000


def test_an_artifact_without_them_has_none(tmp_path):
    assert read_raw(tmp_path) == []
    assert read_promised(tmp_path) == {}
