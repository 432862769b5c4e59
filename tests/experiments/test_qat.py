from types import SimpleNamespace

import numpy as np
import pytest


@pytest.fixture
def qat(script):
    return script("qat")


def test_calibration_images_are_drawn_by_the_seed_from_training_images(qat, points_task):
    first, again, other = (qat.calibrated_on(points_task, seed).arrays["calibration"] for seed in (0, 0, 1))
    assert np.array_equal(first["x"], again["x"])
    assert not np.array_equal(first["x"], other["x"])
    rows = first["x"][:, 0].astype(int)
    assert len(set(rows)) == 8
    assert np.array_equal(first["labels"], points_task.arrays["train"]["labels"][rows])
    assert len(points_task.arrays["calibration"]["x"]) == 8, "the task itself is left alone"


@pytest.fixture
def points_task():
    from evaluators.tasks.array_task import ArrayTask

    class Task(ArrayTask):
        name = "points"
        quality = ()

    train = {"x": np.arange(40, dtype=np.float32)[:, None], "labels": np.arange(40) % 3}
    return Task({"train": train, "calibration": {name: values[:8] for name, values in train.items()}}, "points", {}, 3)


def test_a_mean_below_its_bar_is_said(qat, monkeypatch):
    whole = np.arange(100) < 90
    prepared = SimpleNamespace(
        task=SimpleNamespace(per_example=lambda predict, split: {"accuracy": whole.astype(float)}),
        model=None,
        graph=SimpleNamespace(sites=()),
        cost=lambda edit: {"size_bytes": SimpleNamespace(value=400)},
    )

    def row(right):
        correct = np.arange(100) < right
        return {"report": qat._packed(correct), "torch": qat._packed(correct), "report_accuracy": right / 100, "bytes": 100}

    monkeypatch.setattr(qat, "module_predict", lambda model: None)
    for right, fine in ((89, True), (88, False)):
        lines, kept = qat.compared("resnet20", prepared, {"4 bits, qat": [row(right)] * 3}, "report")
        assert kept is fine
        assert f"{right - 90:+.2f} [" in lines[-2]
        assert "at least -1.5" in lines[-2]
