import json
from pathlib import Path

import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.models import ModelSpec
from evaluators.tasks import DataSpec, Workload, make_task
from evaluators.tasks.array_task import ArrayTask

FACTORY = """
from torch import nn


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 10)

    def forward(self, input_ids):
        return self.table(input_ids)
"""
LINES = ["the cat sat on the mat", "a dog ran", "the dog sat", "a cat ran on a mat"] * 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(FACTORY)
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in LINES))
    return tmp_path


def task(folder: Path, tokenizer: Path, sequence: int = 8, **changes: object) -> ArrayTask:
    data = {
        "files": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "preprocessing": {"sequence": sequence, "tokenizer": str(tokenizer)},
        **changes,
    }
    return make_task(DataSpec(**data), ModelSpec(factory="models.py:Words", task="causal-lm"), Workload(), folder)


def test_running_text_is_cut_into_blocks_in_its_order(folder: Path, tokenizer: Path) -> None:
    blocks = task(folder, tokenizer).arrays["report"]
    assert blocks["input_ids"].shape == (180 // 8, 8)
    assert blocks["input_ids"].ravel()[:12].tolist() == [2, 3, 5, 7, 2, 9, 8, 4, 6, 2, 4, 5]  # the cat sat on the mat / a dog ran / the dog sat


def test_labels_are_the_next_tokens_and_the_last_has_none(folder: Path, tokenizer: Path) -> None:
    blocks = task(folder, tokenizer).arrays["report"]
    assert (blocks["labels"][:, :-1] == blocks["input_ids"][:, 1:]).all()
    assert (blocks["labels"][:, -1] == -100).all()


def test_a_model_that_knows_nothing_is_as_perplexed_as_there_are_words(folder: Path, tokenizer: Path) -> None:
    found = task(folder, tokenizer).metrics(lambda x: {"logits": np.zeros((*x["input_ids"].shape, 10), dtype=np.float32)}, "report")
    assert found["perplexity"].value == pytest.approx(10)
    assert found["loss"].value == pytest.approx(np.log(10))


def test_perplexity_is_the_exponential_of_the_mean_loss_a_token_with_its_interval(folder: Path, tokenizer: Path) -> None:
    made = task(folder, tokenizer)
    logits = np.random.default_rng(0).normal(size=(10, 10)).astype(np.float32)
    predict = lambda x: {"logits": logits[x["input_ids"]]}  # noqa: E731
    found = made.metrics(predict, "report")
    tokens, labels = (made.arrays["report"][name] for name in ("input_ids", "labels"))
    log = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    losses = [-log[t, n] for t, n in zip(tokens.ravel(), labels.ravel(), strict=True) if n != -100]
    assert len(losses) == 7 * len(tokens)
    assert found["loss"].value == pytest.approx(np.mean(losses), rel=1e-5)
    for side in ("value", "low", "high"):
        assert getattr(found["perplexity"], side) == pytest.approx(np.exp(getattr(found["loss"], side)))
    assert found["perplexity"].low < found["perplexity"].value < found["perplexity"].high


def test_max_samples_counts_lines(folder: Path, tokenizer: Path) -> None:
    made = task(folder, tokenizer, max_samples=8)
    assert {name: split["input_ids"].size // 8 for name, split in made.arrays.items() if name != "calibration"} == {"train": 4, "search": 4, "report": 4}


def test_a_text_shorter_than_a_block(folder: Path, tokenizer: Path) -> None:
    with pytest.raises(UserError, match=r"data\.splits\..*: \d+ tokens do not fill one block; preprocessing\.sequence is 4000"):
        task(folder, tokenizer, sequence=4000)
