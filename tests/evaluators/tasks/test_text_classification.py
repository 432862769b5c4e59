import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.models import ModelSpec
from evaluators.tasks import DataSpec, Workload, make_task
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.text_classification import TextClassification

FACTORY = """
from torch import nn


class Bag(nn.Module):
    def __init__(self, classes=2):
        super().__init__()
        self.table = nn.Embedding(10, classes)

    def forward(self, input_ids, attention_mask):
        return (self.table(input_ids) * attention_mask[..., None]).sum(1)
"""
ROWS = [{"text": "the cat sat", "label": "cat"}, {"text": "a dog ran on the mat", "label": "dog"}, {"text": "dog", "label": "dog"}] * 8


def task(folder: Path, tokenizer: Path, rows: list[dict[str, object]] = ROWS, workload: Workload | None = None, sequence: int = 4) -> ArrayTask:
    (folder / "models.py").write_text(FACTORY)
    (folder / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = DataSpec(files={"all": "all.jsonl"}, preprocessing={"sequence": sequence, "tokenizer": str(tokenizer)})
    return make_task(data, ModelSpec(factory="models.py:Bag", task="text-classification"), workload or Workload(), folder)


def test_texts_are_padded_or_cut_and_the_mask_says_so(tmp_path: Path, tokenizer: Path) -> None:
    data = task(tmp_path, tokenizer).arrays["train"]
    rows = {tuple(ids): tuple(mask) for ids, mask in zip(data["input_ids"].tolist(), data["attention_mask"].tolist(), strict=True)}
    assert rows == {(2, 3, 5, 1): (1, 1, 1, 0), (8, 4, 6, 7): (1, 1, 1, 1), (4, 1, 1, 1): (1, 0, 0, 0)}


def test_padding_does_not_change_what_a_model_that_minds_the_mask_says(tmp_path: Path, tokenizer: Path) -> None:
    def predict(x):
        scores = np.stack([(x["input_ids"] == word) * x["attention_mask"] for word in (3, 4)], -1)
        return {"logits": scores.sum(1).astype(np.float32) * 9}

    short, long = (task(tmp_path, tokenizer, sequence=n).metrics(predict, "report") for n in (6, 32))
    assert short == long
    assert short["accuracy"].value == 1.0


def test_labels_that_are_texts_are_numbered_by_name(tmp_path: Path, tokenizer: Path) -> None:
    made = task(tmp_path, tokenizer)
    assert (made.classes, made.label_names) == (2, ("cat", "dog"))
    cats = made.arrays["train"]["input_ids"][:, 1] == 3
    assert (made.arrays["train"]["labels"] == np.where(cats, 0, 1)).all()


def test_the_workload_says_the_sizes_that_are_traced(tmp_path: Path, tokenizer: Path) -> None:
    inputs = task(tmp_path, tokenizer, workload=Workload(batch=3, sequence=10)).example_inputs
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {"input_ids": (3, 10), "attention_mask": (3, 10)}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"text": None, "label": "cat"}, r"data\.columns\.text: found None in column 'text' of 'all'; accepted: texts"),
        ({"text": "a", "label": None}, r"data\.columns\.label: column 'label' has examples without a label"),
    ],
)
def test_an_example_that_is_not_whole_is_refused(tmp_path: Path, tokenizer: Path, row: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        task(tmp_path, tokenizer, [*ROWS, row])


def test_a_factory_model_needs_a_tokenizer(tmp_path: Path, tokenizer: Path) -> None:
    task(tmp_path, tokenizer)
    with pytest.raises(UserError, match=r"data\.preprocessing\.tokenizer: missing"):
        make_task(DataSpec(files={"all": "all.jsonl"}), ModelSpec(factory="models.py:Bag", task="text-classification"), Workload(), tmp_path)


def test_training_batches_end_with_their_longest_text() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0]])
    arrays = {"input_ids": np.arange(8).reshape(2, 4), "attention_mask": mask, "labels": np.array([0, 1])}
    task = TextClassification({"train": arrays, "search": arrays}, "0", {}, 2, batch_size=2, trims=True)
    (training,) = task.batches("train", seed=0)
    (ranked,) = task.batches("search")
    assert training.inputs["input_ids"].shape == (2, 3)
    assert training.inputs["attention_mask"].sum() == mask.sum()
    assert ranked.inputs["input_ids"].shape == (2, 4)
    (kept,) = dataclasses.replace(task, trims=False).batches("train", seed=0)
    assert kept.inputs["input_ids"].shape == (2, 4)
