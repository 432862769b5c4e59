import dataclasses
import os

import numpy as np
import pytest
import torch
from torch import nn

from compressors.context import Batch
from compressors.errors import DivergedError, UserError
from evaluators.fit import FitSpec, fit
from evaluators.models import model_fingerprint
from evaluators.tasks.heads import Regression
from evaluators.tasks.image_classification import ImageClassification


class Pixels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(image)
        return logits


def task() -> ImageClassification:
    """Three classes that differ in brightness."""
    labels = np.arange(120, dtype=np.int64) % 3
    images = (labels[:, None, None, None] * 80 + np.random.default_rng(0).integers(0, 40, (120, 1, 8, 8))).astype(np.uint8)
    split = {"image": images, "labels": labels}
    return ImageClassification({"train": split, "search": split}, "0", {}, 3)


def test_a_fitted_copy_has_learned_and_the_model_is_as_it_was() -> None:
    model, lines = Pixels(), []
    before = model_fingerprint(model)
    fitted = fit(model, task(), FitSpec(epochs=10, learning_rate=0.01), seed=0, log=lines.append)
    assert model_fingerprint(model) == before
    assert not fitted.training
    assert task().score(fitted, "search")[1] > 0.9
    assert [line.partition(":")[0] for line in lines] == [f"fit epoch {i + 1}" for i in range(10)]


def test_label_smoothing_keeps_the_logits_small() -> None:
    def largest(smoothing: float) -> float:
        fitted = fit(Pixels(), task(), FitSpec(epochs=10, learning_rate=0.01, label_smoothing=smoothing), seed=0)
        (batch,) = task().batches("search", batch_size=120)
        return float(fitted(**batch.inputs).softmax(-1).max().detach())

    assert largest(0.3) < 0.9 < largest(0.0)


class Doubled(ImageClassification):
    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return 2 * super().loss(logits, batch)


def test_label_smoothing_takes_the_place_of_no_other_loss() -> None:
    made = task()
    copied = {field.name: getattr(made, field.name) for field in dataclasses.fields(made)}
    for other in (dataclasses.replace(made, head=Regression(), name="image-regression"), Doubled(**{**copied, "name": "doubled"})):
        with pytest.raises(UserError, match=f"fit.label_smoothing: 0.1 of {other.name}, whose loss is no cross-entropy of classes; accepted: 0"):
            fit(Pixels(), other, FitSpec(steps=1, label_smoothing=0.1), seed=0)


def test_a_fit_that_diverges_says_so_and_gives_the_threads_back() -> None:
    threads = torch.get_num_threads()
    model = Pixels()
    nn.init.constant_(model.body[-1].weight, float("nan"))
    with pytest.raises(DivergedError, match="the loss is nan at step 0"):
        fit(model, task(), FitSpec(steps=1), seed=0)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("threads", [1, 3])
def test_the_threads_of_a_fit_are_the_machine_s_whatever_the_process_has(threads: int) -> None:
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(threads)
    try:
        fit(Pixels(), task(), FitSpec(steps=1), seed=0, log=lambda _: seen.append(torch.get_num_threads()))
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == [len(os.sched_getaffinity(0))]
