"""Each kind of task from files, down to its metrics."""

import io
import json

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.io import wavfile
from torch import nn

import compareto as cp
from evaluators.model_spec import ModelSpec
from evaluators.models import load_model
from evaluators.tasks import DataSpec, Workload, make_task
from evaluators.tasks.array_task import module_predict

RNG = np.random.default_rng(0)
MODELS = """
import torch
from torch import nn

class Flat(nn.Module):
    def __init__(self, size, outputs):
        super().__init__()
        self.head = nn.Linear(size, outputs)
    def forward(self, track):
        return self.head(track.flatten(1))

def flat(size, outputs):
    return Flat(size, outputs)

class Same(nn.Module):
    def __init__(self, channels=3, scale=1):
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, channels, 1), scale
    def forward(self, image):
        return self.conv(nn.functional.interpolate(image, scale_factor=self.scale))

def same():
    return Same()

def grey():
    return Same(1)

def twice():
    return Same(scale=2)

def metric(outputs, labels):
    return (outputs[:, 0] > 0).astype(float)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path


def made(folder, task, rows, columns, *, model=None, outputs=2, size=6, **data):
    pd.DataFrame(rows).to_parquet(folder / "rows.parquet")
    spec = ModelSpec(**(model or {"factory": "models.py:flat", "arguments": {"size": size, "outputs": outputs}}), task=task)
    given = DataSpec(files={"train": "rows.parquet"}, columns=columns, **data)
    return spec, make_task(given, spec, Workload(), folder)


def judged(spec, task, folder):
    model = load_model(spec, folder, task)
    batch = next(task.batches("train", seed=0, batch_size=8))
    assert torch.isfinite(task.loss(model(**batch.inputs), batch))
    found = task.metrics(module_predict(model), "report")
    assert list(found) == [metric.name for metric in task.quality]
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in found.values())
    per_example = task.per_example(module_predict(model), "report")
    for name, values in per_example.items():
        assert values.mean() == pytest.approx(found[name].value)
    assert task.score(model, "report")[0] == task.quality[0].name
    return found


def tracks(count=80):
    label = RNG.integers(0, 2, count)
    return {f"x{i}": RNG.standard_normal(count) + label for i in range(6)} | {"label": label}


def test_series_are_columns_of_numbers_in_a_shape(folder):
    columns = {"series": [f"x{i}" for i in range(6)]}
    spec, task = made(folder, "series-classification", tracks(), columns, preprocessing={"shape": [3, 2]}, metrics=["f1", "accuracy", "matthews"])
    assert task.arrays["train"]["track"].shape[1:] == (3, 2)
    assert task.example_inputs["track"].shape == (1, 3, 2)
    assert list(judged(spec, task, folder)) == ["f1", "accuracy", "matthews", "loss"]


def test_a_series_may_be_one_column_of_lists(folder):
    rows = {"series": [RNG.standard_normal(6).tolist() for _ in range(40)], "label": RNG.integers(0, 2, 40)}
    spec, task = made(folder, "series-classification", rows, {})
    assert list(judged(spec, task, folder)) == ["accuracy", "loss"]


def test_numbers_are_predicted(folder):
    rows = tracks()
    rows["a"], rows["b"] = rows["x0"] + 2 * rows["x1"], rows["x2"]
    columns = {"series": [f"x{i}" for i in range(6)], "label": ["a", "b"]}
    spec, task = made(folder, "series-regression", rows, columns, metrics=["r2", {"mean": ["pearson", "spearman"], "name": "sts"}])
    assert task.classes == 2
    assert list(judged(spec, task, folder)) == ["r2", "sts", "loss"]


def test_a_regression_learns(folder):
    from evaluators.fit import FitSpec, fit

    rows = tracks(200)
    rows["a"] = rows["x0"] + 2 * rows["x1"]
    columns = {"series": [f"x{i}" for i in range(6)], "label": "a"}
    spec, task = made(folder, "series-regression", rows, columns, outputs=1, metrics=["r2"])
    model = fit(load_model(spec, folder, task), task, FitSpec(epochs=40, learning_rate=0.05), seed=0)
    assert task.metrics(module_predict(model), "report")["r2"].value > 0.95


def test_several_labels_may_hold(folder):
    rows = tracks()
    rows["a"], rows["b"] = rows["x0"] > 0, rows["x1"] > 1
    columns = {"series": [f"x{i}" for i in range(6)], "label": ["a", "b"]}
    spec, task = made(folder, "series-multi-label", rows, columns, metrics=["f1_macro", "subset_accuracy"])
    assert list(judged(spec, task, folder)) == ["f1_macro", "subset_accuracy", "loss"]
    assert task.label_names == ("a", "b")


def wav(values, rate=8000):
    buffer = io.BytesIO()
    wavfile.write(buffer, rate, (np.asarray(values) * 32767).astype(np.int16))
    return buffer.getvalue()


def test_recordings_are_cut_or_filled_to_one_length(folder):
    rows = {"audio": [wav(RNG.uniform(-1, 1, 5 + i % 3)) for i in range(40)], "label": RNG.integers(0, 2, 40)}
    spec, task = made(folder, "audio-classification", rows, {}, preprocessing={"samples": 6})
    assert task.arrays["train"]["track"].shape[1:] == (6,)
    assert np.abs(task.arrays["train"]["track"]).max() <= 1
    assert list(judged(spec, task, folder)) == ["accuracy", "loss"]


def image_pairs(folder, *, model="same", workload=None, **preprocessing):
    def png():
        buffer = io.BytesIO()
        Image.fromarray(RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": None}

    pairs = [png() for _ in range(40)]
    features = datasets.Features({"image": datasets.Image(), "target": datasets.Image()})
    datasets.Dataset.from_dict({"image": pairs, "target": pairs}, features=features).to_parquet(folder / "pairs.parquet")
    spec = ModelSpec(factory=f"models.py:{model}", task="image-to-image")
    return spec, make_task(DataSpec(files={"train": "pairs.parquet"}, preprocessing=preprocessing), spec, workload or Workload(), folder)


def test_images_become_images(folder):
    spec, task = image_pairs(folder)
    found = task.metrics(lambda inputs: {"logits": inputs["image"]}, "report")
    assert found["psnr"].value == 100
    assert found["loss"].value == 0
    assert judged(spec, task, folder)["psnr"].value < 30


@pytest.mark.parametrize(
    ("model", "preprocessing", "said"),
    [
        ("grey", {}, r"the outputs have the shape \[1, 8, 8\], the targets \[3, 8, 8\] \(channels, height, width\); accepted: the same$"),
        ("same", {"image_size": 16}, r"the outputs have the shape \[3, 16, 16\], the targets \[3, 8, 8\] .*; data\.preprocessing\.image_size resizes images"),
        ("same", {"augment": ["flip"]}, r"data\.preprocessing\.augment: \['flip'\] would change images and not their targets; accepted .*: none"),
    ],
)
def test_images_and_targets_that_do_not_fit(folder, model, preprocessing, said):
    with pytest.raises(cp.UserError, match=said):  # noqa: PT012 - the data say it, or the model
        spec, task = image_pairs(folder, model=model, **preprocessing)
        load_model(spec, folder, task)


def test_images_of_the_workload_may_be_larger_than_targets(folder):
    spec, task = image_pairs(folder, workload=Workload(image_size=16))
    assert task.example_inputs["image"].shape == (1, 3, 16, 16)
    load_model(spec, folder, task)
    # As of super-resolution: what comes out has the targets' size, not the images'.
    spec, task = image_pairs(folder, model="twice", image_size=4)
    load_model(spec, folder, task)


def test_a_users_metric_is_among_the_others(folder):
    columns = {"series": [f"x{i}" for i in range(6)]}
    own = {"function": "models.py:metric", "direction": "max", "name": "positive"}
    spec, task = made(folder, "series-classification", tracks(), columns, metrics=[own, "accuracy"])
    assert list(judged(spec, task, folder)) == ["positive", "accuracy", "loss"]
    plain = made(folder, "series-classification", tracks(), columns)[1]
    (folder / "models.py").write_text(MODELS + "\n# changed\n")
    again = make_task(DataSpec(files={"train": "rows.parquet"}, columns=columns, metrics=[own, "accuracy"]), spec, Workload(), folder)
    assert len({task.fingerprint, plain.fingerprint, again.fingerprint}) == 3


OWN_TASK = """
from evaluators.metric import Metric
from evaluators.tasks.heads import Classification
from evaluators.tasks.array_task import ArrayTask
import numpy as np, torch

def mine(data, model, workload, folder):
    inputs = np.eye(6, dtype=np.float32).repeat(4, axis=0)
    parts = {"track": inputs, "labels": np.arange(24) % 2}
    return ArrayTask(
        arrays={split: parts for split in ("train", "calibration", "search", "report")}, fingerprint="mine", classes=2,
        example_inputs={"track": torch.zeros(1, 6)}, name="mine",
        quality=(Metric("accuracy", "", "max", "observed"), Metric("loss", "nats", "min", "observed")),
    )

def nothing(data, model, workload, folder):
    return 3
"""


def test_a_users_task_is_called_with_the_sections(folder):
    (folder / "tasks.py").write_text(OWN_TASK)
    metric = {"function": "models.py:metric", "direction": "max", "name": "accuracy"}
    arguments = {"factory": "models.py:flat", "arguments": {"size": 6, "outputs": 2}}
    spec = ModelSpec(**arguments, task="tasks.py:mine")
    task = make_task(DataSpec(dataset="mine", metrics=[metric]), spec, Workload(), folder)
    assert task.metrics(module_predict(load_model(spec, folder, task)), "report")["accuracy"].value in np.arange(25) / 24
    assert make_task(DataSpec(dataset="mine", metrics=["accuracy"]), spec, Workload(), folder).quality == task.quality
    for changed, said in (
        ({"direction": "min"}, r"is judged by accuracy \(max\), loss \(min\), data.metrics says accuracy \(min\), loss \(min\); accepted: the same"),
        ({"unit": "points"}, r"data.metrics says accuracy \(max, points\)"),
        ({"function": "models.py:nowhere"}, "data.metrics: 'models.py:nowhere' has no function 'nowhere'"),
    ):
        with pytest.raises(cp.UserError, match=said):
            make_task(DataSpec(dataset="mine", metrics=[metric | changed]), spec, Workload(), folder)
    for place, said in (("tasks.py:nothing", "returns int; accepted: an evaluators.tasks.Task"), ("tasks.py:mime", "did you mean 'mine'")):
        with pytest.raises(cp.UserError, match=said):
            make_task(DataSpec(dataset="mine", metrics=[metric]), ModelSpec(**arguments, task=place), Workload(), folder)


@pytest.mark.parametrize(
    ("task", "columns", "data", "said"),
    [
        ("series-classification", {"series": ["x0", "x9"]}, {}, "data.columns.series: no column 'x9' in split 'train'"),
        ("series-classification", {"series": ["x0", "x1"]}, {"preprocessing": {"shape": [3]}}, "data.preprocessing.shape: \\[3\\] for examples of 2 numbers"),
        ("series-classification", {"series": ["x0", "text"]}, {}, "data.columns.series: split 'train' holds something else than numbers"),
        ("series-classification", {"series": ["x0", "hole"]}, {}, "holds numbers that are missing or not finite"),
        ("series-multi-label", {"series": ["x0"], "label": ["x1"]}, {}, "accepted for series-multi-label: 0 and 1"),
        ("series-regression", {"series": ["x0"], "label": "text"}, {}, "data.columns.label: split 'train' holds something else than numbers"),
        ("series-classification", {"series": ["x0"], "label": ["x1", "label"]}, {}, "data.columns.label: got a list of columns; accepted: one"),
        ("series-classification", {"series": ["x0"], "label": "four"}, {"metrics": ["f1"]}, "'f1' is of the second of two classes; the data has 4"),
        ("audio-classification", {"audio": "x0"}, {}, "recording 0 has the shape \\[\\] or holds no numbers"),
        ("audio-classification", {"audio": "text"}, {}, "recording 0 cannot be read"),
    ],
)
def test_data_that_do_not_fit_are_one_message(folder, task, columns, data, said):
    rows = tracks() | {"text": ["a"] * 80, "hole": [float("nan")] * 80, "four": RNG.integers(0, 4, 80) | 3}
    with pytest.raises(cp.UserError, match=said):
        made(folder, task, rows, columns, **data)


@pytest.fixture
def words(folder):
    """A tokenizer of a few words, and a model on its tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "the", "cat", "sat", "ra", "##in", "[EOS]"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]").save_pretrained(folder / "words")
    (folder / "tagger.py").write_text(
        "from torch import nn\nclass Tagger(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.table = nn.Embedding(8, 3)\n"
        "    def forward(self, input_ids, attention_mask):\n        return self.table(input_ids)\ndef tagger():\n    return Tagger()\n"
    )
    return folder


def test_words_have_a_class_each_at_their_first_token(words):
    rows = {"text": [["the", "rain", "sat"]] * 30, "label": [[0, 1, 2]] * 30}
    model = {"factory": "tagger.py:tagger"}
    spec, task = made(words, "token-classification", rows, {}, model=model, preprocessing={"sequence": 6, "tokenizer": "words"}, metrics=["f1_macro"])
    assert task.arrays["train"]["labels"][0].tolist() == [0, 1, -100, 2, -100, -100]
    assert task.classes == 3
    assert list(judged(spec, task, words)) == ["f1_macro", "loss"]
    rows["label"] = [[0, 1]] * 30
    with pytest.raises(cp.UserError, match="accepted: a list of words in text, a class of each in label"):
        made(words, "token-classification", rows, {}, model=model, preprocessing={"sequence": 6, "tokenizer": "words"})


def test_labels_of_tokens_stay_with_their_texts(words):
    from transformers import BertConfig, BertForTokenClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "max_position_embeddings": 8}
    BertForTokenClassification(BertConfig(vocab_size=8, **sizes, num_labels=3)).save_pretrained(words / "tagger")
    rows = {"text": [["the", "cat", "sat"]] * 30, "label": [[0, 1, 2]] * 30}
    spec, task = made(words, "token-classification", rows, {}, model={"pretrained": "tagger"}, preprocessing={"sequence": 6, "tokenizer": "words"})
    model = load_model(spec, words, task)
    for batch in (next(task.batches("train", seed=0)), task.take("train", np.arange(4), view=0)):
        assert batch.inputs["input_ids"].shape == batch.labels.shape
        assert torch.isfinite(task.loss(model(**batch.inputs).logits, batch))


class Repeats(nn.Module):
    """Says what a table says follows each token."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(torch.eye(8)[torch.tensor(table)])

    def forward(self, input_ids, attention_mask):
        return 5 * self.table[input_ids]


def test_continuations_are_compared_with_what_follows(words):
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    LlamaForCausalLM(config).save_pretrained(words / "llama")
    (words / "text.jsonl").write_text("\n".join(json.dumps({"text": "the cat sat " * 8}) for _ in range(30)))
    spec = ModelSpec(pretrained="llama", task="causal-lm")
    data = {"files": {"train": "text.jsonl"}, "preprocessing": {"sequence": 12, "tokenizer": "words"}, "metrics": ["rouge_l", "bleu", "perplexity"]}
    generation = {"prompts": 4, "prompt_tokens": 5, "new_tokens": 6}
    against = {name: make_task(DataSpec(**data, generation={**generation, "references": name}), spec, Workload(), words) for name in ("data", "uncompressed")}
    right = module_predict(Repeats([0, 0, 3, 4, 2, 0, 0, 0]))
    found = against["data"].metrics(right, "report")
    assert found["rouge_l"].value == pytest.approx(1)
    assert found["bleu"].value == pytest.approx(1)
    wrong = against["data"].metrics(module_predict(Repeats([5] * 8)), "report")
    assert wrong["rouge_l"].value == 0
    assert wrong["perplexity"].value > found["perplexity"].value
    same = against["uncompressed"].metrics(module_predict(load_model(spec, words, against["uncompressed"])), "report")
    assert same["rouge_l"].value == pytest.approx(1)
    assert against["data"].fingerprint != against["uncompressed"].fingerprint
    with pytest.raises(cp.UserError, match=r"data\.generation: 8 tokens of the prompt and 6 new ones; accepted: at most 12 together"):
        make_task(DataSpec(**data, generation={**generation, "prompt_tokens": 8}), spec, Workload(), words)


def test_a_text_becomes_another(words):
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0, pad_token_id=0, eos_token_id=7)
    T5ForConditionalGeneration(config).save_pretrained(words / "t5")
    rows = [{"text": "the cat sat", "target": "sat cat the cat [EOS]"}] * 40
    (words / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    spec = ModelSpec(pretrained="t5", task="seq2seq")
    data = DataSpec(
        files={"train": "pairs.jsonl"},
        preprocessing={"sequence": 5, "tokenizer": "words"},
        metrics=["bleu", "rouge_l", "perplexity"],
        generation={"new_tokens": 6, "prompts": 8},
    )
    task = make_task(data, spec, Workload(), words)
    assert task.arrays["train"]["decoder_input_ids"][0].tolist() == [0, 4, 3, 2, 3, 7]
    assert task.arrays["train"]["labels"][0].tolist() == [4, 3, 2, 3, 7, -100]
    model = load_model(spec, words, task)
    assert torch.isfinite(task.loss(model(**task.example_inputs).logits, next(task.batches("report", batch_size=1))))

    def right(inputs):
        answer = np.array([4, 3, 2, 3, 7, 1])
        return {"logits": 9 * np.eye(8, dtype=np.float32)[answer][None].repeat(len(inputs["input_ids"]), axis=0)}

    found = task.metrics(right, "report")
    assert list(found) == ["bleu", "rouge_l", "perplexity", "loss"]
    assert found["rouge_l"].value == pytest.approx(1)
    assert found["bleu"].value == pytest.approx(1)
    assert task.told(right, "report") == ["sat cat the cat"] * 8
    assert task.metrics(module_predict(model), "report")["perplexity"].value > found["perplexity"].value
    from compressors.graph import trace

    assert trace(model, task.example_inputs).parameters > 0
