"""Data for a head that was trained on classes with names."""

import json
from pathlib import Path

import datasets
import pytest

from compressors.errors import UserError
from evaluators.head_names import numbered_by
from evaluators.models import ModelSpec, load_model
from evaluators.tasks import DataSpec, Workload, make_task
from evaluators.tasks.array_task import ArrayTask

TOPICS = {"the cat": "World", "a dog": "Sports", "on mat": "Business"}
WORDS = {"World": 3, "Sports": 4, "Business": 9}  # the second word of each
TOLD = ModelSpec(pretrained="told", task="text-classification")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three topics as texts, as numbers with names, and in two parts; heads that name them, and one that does not."""
    from transformers import BertConfig, BertForSequenceClassification

    made = tmp_path_factory.mktemp("named")
    sizes = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 8}
    named = {"told": ("World", "Sports", "Business"), "other": ("World", "Sports", "Weather"), "strange": ("x", "y", "z"), "plain": None}
    for name, labels in named.items():
        config = BertConfig(**sizes, **({"id2label": dict(enumerate(labels))} if labels else {"num_labels": 3}))
        BertForSequenceClassification(config).save_pretrained(made / name)
    rows = [{"text": text, "label": label} for text, label in TOPICS.items()] * 20
    for name, skipped in {"all": "", "fewer": "World", "others": "Sports"}.items():
        (made / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in rows if row["label"] != skipped))
    for name, names in {"numbered": ["Sports", "Business", "World"], "spelled": ["World", "Sports", "Money"], "moved": ["Sports", "World", "Money"]}.items():
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        values = [names.index(row["label"]) if row["label"] in names else names.index("Money") for row in rows]
        datasets.Dataset.from_dict({"text": [row["text"] for row in rows], "label": values}, features=features).to_parquet(made / f"{name}.parquet")
    return made


def task(folder: Path, tokenizer: Path, model: ModelSpec = TOLD, file: str = "all.jsonl", **data: object) -> ArrayTask:
    given = data or {"files": {"train": file}}
    return make_task(DataSpec(**given, preprocessing={"sequence": 4, "tokenizer": str(tokenizer)}), model, Workload(), folder)


def model_of(name: str) -> ModelSpec:
    return TOLD.model_copy(update={"pretrained": name})


@pytest.mark.parametrize("file", ["all.jsonl", "numbered.parquet"])
def test_classes_are_numbered_as_the_head_has_them(folder: Path, tokenizer: Path, file: str) -> None:
    made = task(folder, tokenizer, file=file)
    assert made.label_names == ("World", "Sports", "Business")
    for data in made.arrays.values():
        assert [WORDS[made.label_names[i]] for i in data["labels"]] == data["input_ids"][:, 1].tolist()
    assert load_model(TOLD, folder, made).config.id2label == dict(enumerate(made.label_names))


def test_classes_of_parts_too(folder: Path, tokenizer: Path) -> None:
    made = task(folder, tokenizer, parts={name: {"files": {"train": f"{name}.jsonl"}} for name in ("fewer", "others")})
    assert made.label_names == ("World", "Sports", "Business")
    for data in made.arrays.values():
        assert [WORDS[made.label_names[i]] for i in data["labels"]] == data["input_ids"][:, 1].tolist()


@pytest.mark.parametrize("name", ["plain", "strange"])
def test_a_head_that_knows_none_of_the_names_says_nothing(folder: Path, tokenizer: Path, name: str) -> None:
    made = task(folder, tokenizer, model_of(name))
    assert made.label_names == ("Business", "Sports", "World")
    assert made.fingerprint != task(folder, tokenizer).fingerprint, "what was computed with other numbers is not taken"
    load_model(model_of(name), folder, made)


def test_a_head_that_knows_some_of_the_names(folder: Path, tokenizer: Path) -> None:
    said = r"data\.columns\.label: found Business, Sports, World; the head of model\.pretrained has World, Sports, Weather; accepted: "
    with pytest.raises(UserError, match=said):
        task(folder, tokenizer, model_of("other"))


def test_numbers_of_the_data_may_have_other_names_but_no_other_order(folder: Path, tokenizer: Path) -> None:
    spelled = task(folder, tokenizer, file="spelled.parquet")
    assert spelled.label_names == ("World", "Sports", "Money")
    load_model(TOLD, folder, spelled)
    moved = task(folder, tokenizer, file="moved.parquet")
    said = r"'Sports' is label 1 of the head and 0 of the data; the head has World, Sports, Business, the data Sports, World, Money; accepted: one order"
    with pytest.raises(UserError, match=said):
        load_model(TOLD, folder, moved)


def test_a_teacher_that_numbers_the_classes_otherwise(folder: Path, tokenizer: Path) -> None:
    from compressors.teacher_spec import TeacherSpec
    from search.teachers import load_teacher

    with pytest.raises(UserError, match=r"teacher\.pretrained: 'Business' is label 2 of the head and 0 of the data"):
        load_teacher(TeacherSpec(pretrained="told"), "text-classification", folder, task(folder, tokenizer, model_of("plain")))


@pytest.mark.parametrize(
    ("head", "names", "found"),
    [
        (["POSITIVE", "NEGATIVE"], ["negative", "positive"], ["positive", "negative"]),
        (["1", "0"], ["0", "1"], ["0", "1"]),
        ([], ["b", "a"], ["b", "a"]),
        (["c", "b", "a"], ["a", "b"], ["b", "a"]),
        (["a"], ["a", "A"], ["a", "A"]),
    ],
)
def test_names_are_found_whatever_their_case_and_numbers_are_no_names(head: list[str], names: list[str], found: list[str]) -> None:
    assert numbered_by(head, names) == found
