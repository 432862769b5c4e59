import json

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from compressors.errors import CompressionError
from compressors.graph import trace
from compressors.recipe import Recipe
from search.cache import Cache
from search.experiment import Experiment
from search.export import export_trial
from search.load_artifact import load_artifact
from search.preparing import prepare
from search.raw_files import read_raw
from search.record import TrialRecord
from search.results import Results
from search.serving.request_error import RequestError
from search.serving.served import Served
from search.serving.validation import validated
from search.stages import StageRunner

WORDS = [f"w{i}" for i in range(40)]
TRACKS = """
import torch
from torch import nn

class TrackNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv1d(2, 8, 3, stride=2), nn.Linear(8, 2)

    def forward(self, track):
        return self.head(torch.relu(self.conv(track.transpose(1, 2))).mean(-1))

def track_net():
    torch.manual_seed(0)
    return TrackNet()
"""


def prepared_runner(folder, text):
    (folder / "experiment.yaml").write_text(text)
    return StageRunner(prepare(Experiment.load(str(folder / "experiment.yaml")), Cache(), lambda _: None), Cache())


@pytest.fixture(scope="module")
def texts(root):
    folder = root / "texts"
    folder.mkdir()
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "tiny")
    torch.manual_seed(0)
    sizes = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForSequenceClassification(BertConfig(**sizes, max_position_embeddings=20, num_labels=2)).save_pretrained(folder / "tiny")
    rng = np.random.default_rng(0)
    rows = [{"text": " ".join(rng.choice(WORDS, rng.integers(2, 20))), "label": int(i % 2)} for i in range(80)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return prepared_runner(
        folder,
        """
model: {pretrained: tiny, task: text-classification}
data: {files: {train: texts.jsonl}, preprocessing: {sequence: 16}}
devices: [raspberry-pi-5/onnxruntime]
objectives: [accuracy, latency_ms@raspberry-pi-5/onnxruntime]
recipe: [{input_size: {length: {int: [4, 16]}}}]
search: {trials: 2}
""",
    )


@pytest.fixture(scope="module")
def tracks(root):
    folder = root / "tracks"
    folder.mkdir()
    (folder / "models.py").write_text(TRACKS)
    rng = np.random.default_rng(0)
    rows = [{"series": np.cumsum(rng.normal(i % 2, 1, (16, 2)), 0).round(3).tolist(), "label": i % 2} for i in range(80)]
    (folder / "tracks.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return prepared_runner(
        folder,
        """
model: {factory: "models.py:track_net", task: series-classification}
data: {files: {train: tracks.jsonl}}
devices: [raspberry-pi-5/onnxruntime]
objectives: [accuracy, latency_ms@raspberry-pi-5/onnxruntime]
recipe: [{input_size: {scale: {uniform: [0.5, 1.0]}}}]
search: {trials: 2}
""",
    )


def exported(runner, steps, root):
    recipe, folder = Recipe.from_plain(steps), root / "study"
    for name in ("records", "reports"):
        (folder / name).mkdir(parents=True)
    (folder / "experiment.yaml").write_text(runner.prepared.experiment.to_yaml())
    found, report = runner.run(recipe), runner.run(recipe, split="report").metrics
    record = TrialRecord("0001", recipe.to_plain(), "ok", metrics=found.metrics, widths=found.widths, candidate=found.candidate)
    (folder / "records" / "0001.json").write_text(record.to_json())
    quality = {k: v.to_plain() for k, v in report.items() if k in ("accuracy", "loss")}
    (folder / "reports" / "0001.json").write_text(json.dumps({"report": quality}))
    return export_trial(Results.load(folder), "0001", root / "artifact", log=lambda _: None)


def test_texts_are_cut_as_their_tokenizer_cuts_them(texts):
    sized = texts.at(Recipe.from_plain([{"input_size": {"length": 6}}])).task
    tokenizer = AutoTokenizer.from_pretrained(texts.prepared.experiment.folder / "tiny")
    raw = [json.loads(line)["text"] for line in (texts.prepared.experiment.folder / "texts.jsonl").read_text().splitlines()]
    wanted = {tuple(ids) for ids in tokenizer(raw, padding="max_length", truncation=True, max_length=6)["input_ids"]}
    found = {tuple(ids) for split in ("train", "search", "report") for batch in sized.batches(split) for ids in batch.inputs["input_ids"].tolist()}
    assert found == wanted


@pytest.mark.parametrize("length", [4, 9, 15])
def test_a_shorter_text_costs_what_the_model_does_at_that_length(texts, length):
    recipe = Recipe.from_plain([{"input_size": {"length": length}}, {"prune": {"ratio": {"ffn": 0.5}}}])
    priced, model, sized = texts.price(recipe), texts.model(recipe), texts.at(recipe)
    again = trace(model, sized.task.example_inputs)
    (device,) = sized.devices.items()
    assert again.macs == priced["macs"].value
    assert device[1].cost(again, again.baseline())["latency_ms"].value[0] == pytest.approx(priced[f"latency_ms@{device[0]}"].value)
    assert next(iter(sized.task.example_inputs.values())).shape == (1, length)


@pytest.mark.parametrize(("length", "said"), [(2, "accepted: 3 to 16"), (20, "larger than the data's 16; accepted: 1 to 16")])
def test_a_length_that_cannot_be_is_one_clear_error(texts, length, said):
    with pytest.raises(CompressionError, match=rf"input_size.length: {length}: .*{said}"):
        texts.price(Recipe.from_plain([{"input_size": {"length": length}}]))


def test_an_artifact_cuts_native_texts_itself(texts, tmp_path):
    artifact = exported(texts, [{"input_size": {"length": 6}}, {"quantize": {"weight_bits": 8, "activation_bits": 8, "mode": "dynamic"}}], tmp_path)
    signature = json.loads((artifact / "signature.json").read_text())
    assert signature["preprocessing"]["sequence"] == 6
    predict = load_artifact(artifact)
    with np.load(artifact / "examples.npz") as stored:
        np.testing.assert_allclose(predict(read_raw(artifact))["logits"], stored["logits"], atol=1e-4)
        assert stored["input.input_ids"].shape[1] == 6
    long = " ".join(WORDS[:12])
    np.testing.assert_allclose(predict([long])["logits"], predict([" ".join(WORDS[:4])])["logits"], atol=1e-5)


def test_an_artifact_takes_series_of_either_length(tracks, tmp_path):
    artifact = exported(tracks, [{"input_size": {"scale": 0.75}}], tmp_path)
    signature = json.loads((artifact / "signature.json").read_text())
    name = signature["preprocessing"]["input"]
    assert signature["inputs"][name]["shape"] == ["batch", 12, 2]
    predict = load_artifact(artifact)
    raw, _ = tracks.prepared.task.raw("report", 0, 8)
    with np.load(artifact / "examples.npz") as stored:
        expected = stored["logits"]
    np.testing.assert_allclose(predict(list(raw[name]))["logits"], expected, atol=1e-5)
    np.testing.assert_allclose(predict(raw)["logits"], expected, atol=1e-5)
    served = Served("tracks", "1", artifact, 1.0, signature)
    for length in (16, 12):
        body = json.dumps({"inputs": {name: np.zeros((1, length, 2)).tolist()}}).encode()
        assert validated(body, served, 8).count == 1
    with pytest.raises(RequestError, match=r"has the shape \[1, 13, 2\]"):
        validated(json.dumps({"inputs": {name: np.zeros((1, 13, 2)).tolist()}}).encode(), served, 8)
