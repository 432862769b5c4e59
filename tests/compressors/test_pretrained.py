"""What plain ``from_pretrained`` makes of a saved folder."""

import json
import re

import pytest
import torch
import transformers

from compressors.checkpoint import load, save
from compressors.pipeline import compress
from tests.compressors.test_vocabulary import TRIM, case, output
from tests.conformance.families import build

FITS = [
    ("bert", [], {"num_hidden_layers": 2, "intermediate_size": 96}),
    ("bert", [{"prune": {"ratio": {"ffn": 0.5}, "exclude": "*pooler*"}}], {"intermediate_size": 48}),
    ("bert", [{"prune": {"ratio": {"blocks": 0.5}}}], {"num_hidden_layers": 1}),
    ("gpt2", [{"prune": {"ratio": {"ffn": 0.5}}}, {"prune": {"ratio": {"blocks": 0.5}}}], {"n_inner": 64, "n_layer": 1}),
    (
        "llama",
        [{"prune": {"ratio": {"kv_groups": 0.5, "hidden": 0.5}}}],
        {"num_key_value_heads": 2, "num_attention_heads": 4, "hidden_size": 16, "head_dim": 4},
    ),
    ("qwen3", [{"prune": {"ratio": {"blocks": 0.5}}}], {"num_hidden_layers": 1, "layer_types": ["full_attention"]}),
    ("t5", [{"prune": {"ratio": {"heads": 0.5, "blocks": 0.5}}}], {"num_heads": 2, "num_layers": 2, "num_decoder_layers": 2}),
    ("vit", [{"prune": {"ratio": {"ffn": 0.5}}}, {"quantize": {"weight_bits": 16}}], {"intermediate_size": 32}),
]
DOES_NOT = [
    ("bert", [{"prune": {"ratio": {"heads": 0.5}}}], r"query.weight is \[24, 48\], its configuration can only say \[48, 48\]"),
    ("llama", [{"prune": {"ratio": {"ffn": 0.5}, "scope": "global"}}], "intermediate_size is one number in its configuration, and its layers have 26, 30"),
    ("t5", [{"prune": {"ratio": {"hidden": 0.5}}}], "returns other values"),  # it scales by the root of the configured width
    ("bert", [{"quantize": {"weight_bits": 8, "activation_bits": 16}}], "its weights are quantized"),
    ("bert", [{"low_rank": {"rank": 0.25}}], r"is factorised"),
    ("whisper_encoder", [], "transformers has no model called WhisperEncoder"),
    ("mlp", [], "transformers has no model called Sequential"),
]


def from_pretrained(folder):
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    return getattr(transformers, name).from_pretrained(folder).eval()


@pytest.mark.parametrize(("family", "recipe", "config"), FITS)
def test_uniform_widths_and_depths_are_a_configuration(family, recipe, config, tmp_path):
    model, inputs = build(family)
    smaller = compress(model, recipe, inputs)
    assert save(smaller, tmp_path) == ""
    loaded = from_pretrained(tmp_path)
    assert {name: getattr(loaded.config, name) for name in config} == config
    assert loaded.num_parameters() == smaller.num_parameters()
    assert torch.equal(output(loaded, inputs), output(smaller, inputs))
    again = load(tmp_path)
    assert torch.equal(output(again, inputs), output(smaller, inputs))
    assert list(again.state_dict()) == list(smaller.state_dict())


@pytest.mark.parametrize(("family", "recipe", "why"), DOES_NOT)
def test_what_a_configuration_cannot_say_is_said(family, recipe, why, tmp_path):
    model, inputs = build(family)
    smaller = compress(model, recipe, inputs)
    assert re.search(why, save(smaller, tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors", "structure.json"]
    assert load(tmp_path, build(family)[0])(**inputs) is not None


@pytest.mark.parametrize("family", ["bert", "qwen3", "t5"])
def test_a_trimmed_vocabulary_is_numbered_anew(family, tmp_path):
    model, inputs, data = case(family)
    data.special_tokens = (59,)
    model.config.pad_token_id, model.config.eos_token_id = 3, 59
    smaller = compress(model, [*TRIM, {"prune": {"ratio": {"blocks": 0.5}}}], inputs, data)
    assert save(smaller, tmp_path) == ""
    loaded = from_pretrained(tmp_path)
    kept = next(iter(smaller.compareto_structure["kept"].values()))
    assert loaded.config.vocab_size == len(kept)
    assert (kept[loaded.config.pad_token_id], kept[loaded.config.eos_token_id]) == (3, 59)
    renumbered = {name: torch.searchsorted(torch.tensor(kept), value) if name.endswith("input_ids") else value for name, value in inputs.items()}
    before, after = output(smaller, inputs), output(loaded, renumbered)
    assert torch.equal(before[..., kept] if before.dim() == 3 else before, after)
    unseen = {name: torch.full_like(value, 40) if name.endswith("input_ids") else value for name, value in inputs.items()}
    assert torch.equal(output(load(tmp_path), unseen), output(smaller, unseen)), "rows of dropped tokens"


def test_saving_leaves_the_model_as_it_was(tmp_path):
    model, inputs = build("bert")
    model.train()
    smaller = compress(model, [{"prune": {"ratio": {"blocks": 0.5}}}], inputs)
    before = {name: value.clone() for name, value in smaller.state_dict().items()}
    save(smaller, tmp_path)
    assert smaller.training
    assert smaller.config.num_hidden_layers == 2
    assert all(torch.equal(value, before[name]) for name, value in smaller.state_dict().items())
