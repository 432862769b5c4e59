"""Parts that fit one model, and parts that do not."""

import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import compareto as cp
from evaluators.model_spec import ModelSpec
from evaluators.models import load_model
from evaluators.tasks import DataSpec, Workload, make_task, quality_metrics

FACTORY = """
from torch import nn

class Bag(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.table = nn.Embedding(10, classes)
    def forward(self, input_ids, attention_mask):
        return (self.table(input_ids) * attention_mask[..., None]).sum(1)

class Picture(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(16, 2)
    def forward(self, image):
        return self.head(image.flatten(1))

class Told(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 10)
    def forward(self, input_ids, attention_mask):
        return self.table(input_ids)
"""
TEXTS = ModelSpec(factory="models.py:Bag", task="text-classification")
SAID = {"cat": "the cat sat", "dog": "a dog ran", "mat": "on the mat"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models.py").write_text(FACTORY)
    for name, labels in {"animals": ["dog", "cat"], "things": ["mat", "dog"], "numbers": [0, 1]}.items():
        rows = [{"text": SAID.get(label, "a dog"), "label": label} for label in labels * 20]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for size in (4, 5):
        png = io.BytesIO()
        Image.fromarray(np.zeros((size, size), np.uint8)).save(png, "PNG")
        pd.DataFrame({"image": [png.getvalue()] * 20, "label": [0, 1] * 10}).to_parquet(tmp_path / f"pictures{size}.parquet")
    pd.DataFrame({"track": [[0.0, 1.0]] * 20, "a": range(20), "b": range(20)}).to_parquet(tmp_path / "tracks.parquet")
    return tmp_path


def parts(*names, suffix="jsonl", **more):
    return {name: {"files": {"all": f"{name}.{suffix}"}, **more.get(name, {})} for name in names}


def texts(folder, tokenizer, *names, model=TEXTS, **more):
    data = DataSpec(parts=parts(*names, **more), preprocessing={"sequence": 4, "tokenizer": str(tokenizer)})
    return make_task(data, model, Workload(), folder)


def test_classes_of_all_parts_are_numbered_together(folder, tokenizer):
    task = texts(folder, tokenizer, "animals", "things")
    assert (task.classes, task.label_names) == (3, ("cat", "dog", "mat"))
    second = {"cat": 3, "dog": 4, "mat": 2}  # the second word of each
    for split in ("train", "calibration", "search", "report"):
        data = task.arrays[split]
        assert [task.label_names[i] for i in data["labels"]] == [next(k for k, v in second.items() if v == row[1]) for row in data["input_ids"]]
    assert set(task.parts["things"].arrays["report"]["labels"].tolist()) == {1, 2}
    load_model(TEXTS, folder, task)


def test_the_order_of_a_part_that_has_all_classes_stays(folder, tokenizer):
    import datasets

    rows = {"text": ["the cat sat", "a dog ran"] * 10, "label": [1, 0] * 10}
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["dog", "cat"])})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(folder / "ordered.parquet")
    data = DataSpec(parts={**parts("animals"), **parts("ordered", suffix="parquet")}, preprocessing={"sequence": 4, "tokenizer": str(tokenizer)})
    # Sorted they were cat, dog; both parts have all of them, and the first one's order counts.
    assert make_task(data, TEXTS, Workload(), folder).label_names == ("cat", "dog")
    task = make_task(data.model_copy(update={"parts": dict(reversed(data.parts.items()))}), TEXTS, Workload(), folder)
    assert task.label_names == ("dog", "cat")
    cats = task.arrays["train"]["input_ids"][:, 1] == 3
    assert (task.arrays["train"]["labels"] == cats).all()


def test_what_stands_beside_the_parts_is_meant_for_each(folder):
    shared = {"files": {"all": "a.jsonl"}, "columns": {"text": "sentence", "label": "intent"}, "metrics": ["f1_macro"], "max_samples": 9}
    data = DataSpec(**shared, parts={"one": {}, "two": {"dataset": "d", "columns": {"label": "topic"}, "metrics": ["accuracy"], "seed": 3}})
    one, two = data.each.values()
    assert (one.files, one.metrics, one.columns) == ({"all": "a.jsonl"}, ("f1_macro",), {"text": "sentence", "label": "intent"})
    assert (two.files, two.dataset, two.metrics, two.seed, two.max_samples) == ({}, "d", ("accuracy",), 3, 9)
    assert two.columns == {"text": "sentence", "label": "topic"}
    assert DataSpec(**data.model_dump(mode="json", exclude_none=True)) == data
    assert data.told == "one: a.jsonl; two: d"


def test_perplexities_are_averaged_as_they_are_told(folder, tokenizer):
    model = ModelSpec(factory="models.py:Told", task="causal-lm")
    for name, said in (("once", "the cat sat on a mat"), ("again", "a dog ran on the cat")):
        (folder / f"{name}.jsonl").write_text("\n".join([json.dumps({"text": said})] * 40))
    task = texts(folder, tokenizer, "once", "again", model=model)
    from evaluators.tasks.array_task import module_predict

    predict = module_predict(load_model(model, folder, task))
    found, values = task.metrics(predict, "report"), task.per_example(predict, "report")
    assert found["average"].value == pytest.approx((found["once.perplexity"].value + found["again.perplexity"].value) / 2)
    assert values["average"].mean() == pytest.approx(found["average"].value)
    assert found["average"].low < found["average"].value < found["average"].high
    assert not task.higher_is_better


def test_tasks_that_are_told_as_texts_are_judged_each_by_its_own(folder, tmp_path):
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

    words = Tokenizer(WordLevel({w: i for i, w in enumerate(["[PAD]", "[UNK]", "sst:", "cola:", "good", "bad", "cat", "[EOS]"])}, unk_token="[UNK]"))
    words.pre_tokenizer = WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", eos_token="[EOS]").save_pretrained(folder / "words")
    config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=7)
    T5ForConditionalGeneration(config).save_pretrained(folder / "t5")
    for name, prefix, answers in (("sst", "sst:", ["good", "bad"]), ("cola", "cola:", ["good", "good"])):
        rows = [{"text": f"{prefix} cat {answer}", "target": f"{answer} [EOS]"} for answer in answers * 20]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = DataSpec(
        parts=parts("sst", "cola", cola={"metrics": ["exact_match", "perplexity"]}),
        metrics=["exact_match"],
        preprocessing={"sequence": 3, "tokenizer": "words"},
        generation={"new_tokens": 2, "prompts": 10},
    )
    task = make_task(data, ModelSpec(pretrained="t5", task="seq2seq"), Workload(), folder)

    def always_good(inputs):
        return {"logits": 9 * np.eye(8, dtype=np.float32)[np.array([4, 7])][None].repeat(len(inputs["input_ids"]), axis=0)}

    found = task.metrics(always_good, "report")
    assert list(found) == ["average", "sst.exact_match", "sst.loss", "cola.exact_match", "cola.perplexity", "cola.loss"]
    share = np.mean([text.endswith("good") for text in task.parts["sst"].references["report"][:10]])
    assert 0 < share < 1
    assert (found["sst.exact_match"].value, found["cola.exact_match"].value) == (share, 1)
    assert found["cola.exact_match"].low < 1, "ten examples do not make certain"
    assert found["average"].value == pytest.approx((share + 1) / 2)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, r"parts: \{\} names no data set; accepted: NAME: \{files"),
        ({"a": {}}, r"parts\.a: give either dataset .* or files"),
        ({"a": {"dataset": "d", "files": {"all": "x.csv"}}}, r"parts\.a: give either dataset"),
        ({"A-b": {"dataset": "d"}}, r"the name 'A-b' is not accepted; accepted: small letters"),
        ({"a": {"dataset": "d", "splits": {"trian": "x"}}}, r"parts\.a: unknown split 'trian'.*did you mean 'train'"),
        ({"a": {"dataset": "d", "weight": 0}}, r"greater than 0"),
    ],
)
def test_parts_that_say_no_data(given, said):
    with pytest.raises(ValueError, match=said):
        DataSpec(parts=given)


@pytest.mark.parametrize(
    ("task", "given", "said"),
    [
        ("text-classification", {"accuracy": {}}, r"data\.parts\.accuracy: 'accuracy' is the name of a metric"),
        ("text-classification", {"average": {}}, r"data\.parts\.average: 'average' is the name of a metric"),
        ("text-classification", {"news": {}, "chat": {"metrics": ["acuracy"]}}, r"data\.parts\.chat\.metrics: 'acuracy' does not fit.*did you mean 'accuracy'"),
        ("text-classification", {"news": {}, "chat": {"metrics": ["pearson"]}}, r"data\.parts\.chat\.metrics: 'pearson' does not fit text-classification"),
        (
            "text-regression",
            {"news": {"metrics": ["pearson"]}, "chat": {"metrics": ["mse"]}},
            r"data\.parts\.chat\.metrics: pearson of news \(max\) and mse of chat \(min\) have no average; accepted: main metrics of one direction",
        ),
    ],
)
def test_metrics_that_parts_cannot_have(task, given, said):
    with pytest.raises(cp.UserError, match=said):
        quality_metrics(ModelSpec(factory="a.py:b", task=task), DataSpec(dataset="d", parts=given))


def test_labels_that_are_numbers_here_and_names_there(folder, tokenizer):
    with pytest.raises(cp.UserError, match=r"data\.parts\.numbers: labels are numbers, those of animals names such as cat, dog; accepted: the same"):
        texts(folder, tokenizer, "animals", "numbers")


def test_a_part_with_classes_that_the_head_has_not(folder, tokenizer):
    task = texts(folder, tokenizer, "animals", "things")
    with pytest.raises(cp.UserError, match=r"the head has 2 labels, the data 3 classes \(animals 2, things 2\)"):
        load_model(TEXTS.model_copy(update={"arguments": {"classes": 2}}), folder, task)


def test_inputs_of_another_form(folder):
    data = DataSpec(parts=parts("pictures4", "pictures5", suffix="parquet"))
    picture = ModelSpec(factory="models.py:Picture", task="image-classification")
    with pytest.raises(cp.UserError, match=r"data\.parts\.pictures5: image is uint8 \[1, 5, 5\], that of pictures4 uint8 \[1, 4, 4\].*image_size"):
        make_task(data, picture, Workload(), folder)
    sized = data.model_copy(update={"preprocessing": data.preprocessing.model_copy(update={"image_size": 4})})
    assert make_task(sized, picture, Workload(), folder).arrays["train"]["image"].shape[1:] == (1, 4, 4)


def test_every_part_is_measured_at_a_smaller_size(folder):
    from compressors.sizing import Sizing

    picture = ModelSpec(factory="models.py:Picture", task="image-classification")
    task = make_task(DataSpec(parts=parts("pictures4", suffix="parquet")), picture, Workload(), folder)
    smaller = task.at(Sizing("image", (4, 4), (2, 2), "resize"))
    shapes = []

    def predict(inputs):
        shapes.append(inputs["image"].shape[1:])
        return {"logits": np.zeros((len(inputs["image"]), 2), np.float32)}

    smaller.metrics(predict, "report")
    assert set(shapes) == {(1, 2, 2)}
    assert next(smaller.batches("train")).inputs["image"].shape[1:] == (1, 2, 2)
    assert smaller.fingerprint != task.fingerprint


def test_a_task_of_your_own_has_parts_too(folder):
    (folder / "tasks.py").write_text(
        "import dataclasses\nfrom evaluators.tasks import make_task\n"
        "def make(data, model, workload, folder):\n"
        "    ours = model.model_copy(update={'task': 'image-classification'})\n"
        "    plain = data.model_copy(update={'metrics': ()})\n"
        "    return dataclasses.replace(make_task(plain, ours, workload, folder), name='mine')\n"
    )
    model = ModelSpec(factory="models.py:Picture", task="tasks.py:make")
    task = make_task(DataSpec(parts={"a": parts("pictures4", suffix="parquet")["pictures4"]}, metrics=["accuracy"]), model, Workload(), folder)
    assert (task.name, [m.name for m in task.quality]) == ("mine", ["average", "a.accuracy", "a.loss"])


def test_outputs_of_another_form(folder):
    files = {"files": {"all": "tracks.parquet"}}
    data = DataSpec(columns={"series": "track"}, parts={"one": {**files, "columns": {"label": "a"}}, "two": {**files, "columns": {"label": ["a", "b"]}}})
    with pytest.raises(cp.UserError, match=r"data\.parts\.two: a label has the shape \[2\], those of one \[1\]; accepted: one shape"):
        make_task(data, ModelSpec(factory="models.py:Picture", task="series-regression"), Workload(), folder)


def test_what_is_wrong_with_the_data_of_a_part_says_whose(folder, tokenizer):
    with pytest.raises(cp.UserError, match=r"^data\.parts\.things\.columns\.text: no column 'sentence' in split 'all'"):
        texts(folder, tokenizer, "animals", "things", things={"columns": {"text": "sentence"}})
    with pytest.raises(cp.UserError, match=r"^data\.parts\.missing\.files\.all: no file"):
        texts(folder, tokenizer, "animals", "missing")
