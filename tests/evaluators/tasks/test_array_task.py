import numpy as np
import pytest
import torch
from torch import nn

from compressors.errors import DivergedError
from evaluators.metric import Metric
from evaluators.tasks.array_task import ArrayTask, module_predict
from evaluators.tasks.heads import Head, MultiLabel, Regression
from evaluators.tasks.text_classification import TextClassification


def task(count: int = 13, batch: int = 4) -> ArrayTask:
    arrays = {"x": np.arange(count, dtype=np.float32)[:, None], "labels": np.arange(count, dtype=np.int64) % 3}
    return TextClassification({"train": arrays, "search": arrays}, "0", {}, 3, batch_size=batch, evaluation_batch=batch)


def right(share: float, count: int = 13) -> "object":
    """Predicts the label of the first ``share`` of the examples, and the next class of the others."""

    def predict(inputs):
        number = inputs["x"][:, 0].astype(int)
        return {"logits": 5 * np.eye(3, dtype=np.float32)[(number + (number >= share * count)) % 3]}

    return predict


def test_a_pass_yields_every_example_once() -> None:
    for seed in (None, 0):
        seen = torch.cat([b.inputs["x"][:, 0] for b in task().batches("train", seed=seed)])
        assert sorted(seen.tolist()) == list(range(13))
    assert [b.inputs["x"][0, 0].item() for b in task().batches("search")] == [0, 4, 8]


def test_one_example_left_over_joins_the_batch_before() -> None:
    assert [len(b.labels) for b in task(13).batches("train", seed=0)] == [4, 4, 5]
    assert [len(b.labels) for b in task(14).batches("train", seed=0)] == [4, 4, 4, 2]
    assert task(13).steps("train") == 3
    assert task(1).steps("train") == 1


def test_the_order_follows_from_the_seed() -> None:
    def order(seed):
        return torch.cat([b.labels for b in task().batches("train", seed=seed)]).tolist()

    assert order(1) == order(1) != order(2)


def test_metrics_are_estimates_over_all_examples() -> None:
    found = task().metrics(right(10 / 13), "search")
    assert found["accuracy"].value == pytest.approx(10 / 13)
    assert found["accuracy"].low < 10 / 13 < found["accuracy"].high
    hit, miss = (float(-np.log(np.exp(v) / (np.exp(5) + 2))) for v in (5, 0))
    assert found["loss"].value == pytest.approx((10 * hit + 3 * miss) / 13, rel=1e-5)
    assert task().per_example(right(10 / 13), "search")["accuracy"].tolist() == [1] * 10 + [0] * 3


@pytest.mark.parametrize(("head", "expected"), [(Regression(), 5.5), (MultiLabel(), np.log(1 + np.e) - 0.5)])
def test_the_loss_alone_is_that_of_the_head(head: Head, expected: float) -> None:
    arrays = {"x": np.zeros((4, 2), dtype=np.float32), "labels": np.array([[1, 0]] * 4, dtype=np.float32)}
    made = ArrayTask({"search": arrays}, "0", {}, 2, quality=(Metric("loss", "", "min", "observed"),), head=head)
    outputs = np.tile(np.array([1.0, 1.0] if isinstance(head, MultiLabel) else [2.0, -np.sqrt(10.0)], dtype=np.float32), (4, 1))
    found = made.metrics(lambda inputs: {"logits": outputs[: len(inputs["x"])]}, "search")
    assert list(found) == ["loss"]
    assert found["loss"].value == pytest.approx(expected)
    assert made.of_outputs(outputs, "search", np.arange(4))["loss"] == pytest.approx([expected] * 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_outputs_that_are_not_finite_have_no_metrics(bad: float) -> None:
    with pytest.raises(DivergedError, match="outputs on search are not finite"):
        task().metrics(lambda inputs: {"logits": np.full((len(inputs["x"]), 3), bad, dtype=np.float32)}, "search")


def test_a_module_is_evaluated_in_eval_mode_and_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(1, 3), nn.Dropout(0.5)).train()
    predict = module_predict(_Named(model))
    once, again = (predict({"x": np.ones((4, 1), dtype=np.float32)})["logits"] for _ in range(2))
    assert (once == again).all()
    assert model.training


class _Named(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(x)
        return logits


def test_examples_can_be_taken_by_number() -> None:
    made = task()
    batch = made.take("train", np.array([7, 2]), view=0)
    assert batch.inputs["x"][:, 0].tolist() == [7, 2]
    assert batch.labels.tolist() == [1, 2]
    assert made.examples("train") == 13
    assert not made.augments
