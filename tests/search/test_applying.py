import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from compressors.checkpoint import load
from compressors.recipe import Recipe
from search.cli import main
from search.lock import RecipeLock

FACTORY = """
import torch
from torch import nn


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 10))
"""

EXPERIMENT: dict[str, Any] = {
    "model": {"factory": "models.py:small"},
    "data": {"dataset": "sklearn/digits", "max_samples": 128},
    "devices": ["raspberry-pi-5/onnxruntime"],
    "objectives": ["accuracy", "latency_ms@raspberry-pi-5"],
    "recipe": [{"prune": {"ratio": {"channels": {"uniform": [0.0, 0.5]}}}}],
}
RECIPE = Recipe.from_plain([{"prune": {"ratio": 0.5}}, {"distill": {"epochs": 1}}])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("search.cli.quiet_libraries", lambda: None)
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "models.py").write_text(FACTORY)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    RECIPE.save(tmp_path / "recipe.yaml")
    return tmp_path


def apply(folder: Path, recipe: Path, out: Path, *more: str) -> int:
    return main(["apply", str(recipe), "--to", str(folder / "mine.yaml"), "--out", str(out), *more])


def test_a_recipe_and_its_lock_give_the_same_model_again(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = folder / "first", folder / "second"
    assert apply(folder, folder / "recipe.yaml", first, "--set", "search.seed=5") == 0
    assert {"recipe.yaml", "recipe.lock", "metrics.json"} <= {p.name for p in first.iterdir()}
    assert Recipe.load(first / "recipe.yaml") == RECIPE
    assert RecipeLock.load(first / "recipe.lock").seed == 5
    metrics = json.loads((first / "metrics.json").read_text())
    assert metrics["report"]["parameters"]["value"] < 0.6 * metrics["baseline_report"]["parameters"]["value"]
    assert "accuracy" in capsys.readouterr().out

    monkeypatch.setenv("COMPARETO_CACHE", str(folder / "another"))
    assert apply(folder, first / "recipe.yaml", second) == 0
    assert json.loads((second / "metrics.json").read_text()) == metrics
    fresh = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 10))
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(load(first, fresh)(x), load(second, fresh)(x))


def test_a_lock_that_does_not_fit_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = folder / "locked"
    assert apply(folder, folder / "recipe.yaml", locked) == 0
    (folder / "models.py").write_text(FACTORY.replace("manual_seed(0)", "manual_seed(1)"))
    capsys.readouterr()
    assert apply(folder, locked / "recipe.yaml", folder / "out") == 2
    printed = capsys.readouterr().err
    assert "recipe.lock does not fit" in printed
    assert "model: locked" in printed


def test_nothing_is_written_over(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "precious.txt").touch()
    assert apply(folder, folder / "recipe.yaml", folder / "out") == 2
    assert "is not empty" in capsys.readouterr().err


def test_an_unwritable_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "file").touch()
    assert apply(folder, folder / "recipe.yaml", folder / "file" / "out") == 2
    assert "--out: cannot write" in capsys.readouterr().err


def test_a_recipe_for_another_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Recipe.from_plain([{"prune": {"ratio": {"heads": 0.5}, "exclude": "classifier"}}]).save(folder / "recipe.yaml")
    assert apply(folder, folder / "recipe.yaml", folder / "out") == 2
    printed = capsys.readouterr().err
    assert "recipe[0].prune.ratio.heads" in printed
    assert "'classifier' matches nothing" in printed
    shutil.rmtree(folder / "out")


def test_a_folder_of_transformers_is_loaded_by_plain_from_pretrained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", *(f"word{i}" for i in range(60))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]").save_pretrained(folder / "tiny")
    sizes = {"vocab_size": len(words), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertForSequenceClassification(BertConfig(**sizes, num_labels=2)).save_pretrained(folder / "tiny")
    lines = [f"word{i % 20} word{i // 2 % 20} word{i // 20},{'ab'[i % 2]}" for i in range(200)]
    (folder / "texts.csv").write_text("\n".join(["text,label", *lines]))
    experiment = {
        **EXPERIMENT,
        "model": {"pretrained": "tiny", "task": "text-classification"},
        "data": {
            "files": {"all": "texts.csv"},
            "splits": {"search": {"from": "all", "take": 50}, "report": {"from": "all", "skip": 50, "take": 50}, "train": {"from": "all", "skip": 100}},
            "preprocessing": {"sequence": 8},
        },
        "recipe": [{"prune": {"ratio": {"ffn": {"uniform": [0.0, 0.5]}}}}],
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(experiment))
    Recipe.from_plain([{"trim_vocabulary": {}}, {"prune": {"ratio": {"ffn": 0.5, "blocks": 0.5}, "exclude": "*pooler*"}}]).save(folder / "recipe.yaml")
    assert apply(folder, folder / "recipe.yaml", folder / "out") == 0
    assert f"{folder / 'out'} is loaded by compareto.load, and by plain from_pretrained" in capsys.readouterr().out
    ours, plain = load(folder / "out"), BertForSequenceClassification.from_pretrained(folder / "out").eval()
    assert (plain.config.num_hidden_layers, plain.config.intermediate_size) == (1, 16)
    assert plain.config.vocab_size < len(words)
    whole, trimmed = AutoTokenizer.from_pretrained(folder / "tiny"), AutoTokenizer.from_pretrained(folder / "out")
    text = lines[3].split(",")[0]
    assert torch.equal(ours(**whole(text, return_tensors="pt")).logits, plain(**trimmed(text, return_tensors="pt")).logits)

    Recipe.from_plain([{"low_rank": {"rank": 0.25}}]).save(folder / "recipe.yaml")
    assert apply(folder, folder / "recipe.yaml", folder / "factors") == 0
    assert f"{folder / 'factors'} is loaded by compareto.load only: " in capsys.readouterr().out
