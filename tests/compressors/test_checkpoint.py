import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.errors import UserError
from compressors.pipeline import compress

INPUTS = {"x": torch.zeros(2, 2)}
PRUNE = {"prune": {"ratio": 0.5}}
RECIPES = {
    "nothing": [],
    "pruned": [PRUNE],
    "halves": [PRUNE, {"quantize": {"weight_bits": 16}}],
    "integers": [PRUNE, {"quantize": {"weight_bits": 8}}],
    "small weights": [{"quantize": {"weight_bits": 4, "activation_bits": 16}}],
    "both": [PRUNE, {"quantize": {"weight_bits": 16, "include": "hidden"}}, {"quantize": {"weight_bits": 8, "include": "head"}}],
}


def bert(**changes):
    from transformers import BertConfig, BertForSequenceClassification

    config = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "num_labels": 3, **changes}
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(**config)).eval()


TOKENS = {"input_ids": torch.arange(6)[None], "attention_mask": torch.ones(1, 6, dtype=torch.long)}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_model_comes_back_bit_for_bit(tmp_path, points, point_net, recipe):
    smaller = compress(point_net(), recipe, INPUTS, points)
    save(smaller, tmp_path)
    fresh = point_net()
    nn.init.zeros_(fresh.head.weight)
    loaded = load(tmp_path, fresh)
    x = torch.randn(7, 2)
    assert torch.equal(loaded(x=x), smaller(x=x))
    assert not loaded.training
    assert not fresh.head.weight.any(), "the instance given is not changed"
    save(loaded, tmp_path / "again")
    assert torch.equal(load(tmp_path / "again", point_net())(x=x), smaller(x=x))


def test_a_pruned_model_can_be_compressed_further_after_loading(tmp_path, points, point_net):
    save(compress(point_net(), [PRUNE], INPUTS), tmp_path)
    loaded = load(tmp_path, point_net())
    assert [len(units) for units in loaded.compareto_structure["kept"].values()] == [8]
    assert loaded.hidden.out_features == 8
    loaded.train()
    loaded(x=torch.randn(4, 2)).sum().backward()


def test_a_loaded_model_is_in_the_mode_of_the_instance(saved, point_net):
    fresh = point_net().train()
    fresh.norm.eval()
    loaded = load(saved, fresh)
    assert [module.training for module in loaded.modules()] == [module.training for module in fresh.modules()]
    assert loaded.training
    assert not load(saved, point_net()).training


def test_the_files_hold_no_code_and_no_pickle(tmp_path, point_net):
    save(point_net(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.safetensors", "structure.json"]


def test_a_transformers_model_needs_no_instance_even_in_a_fresh_process(tmp_path):
    smaller = compress(bert(), [{"prune": {"ratio": {"ffn": 0.5, "heads": 0.5}}}, {"quantize": {"weight_bits": 8, "activation_bits": 16}}], TOKENS)
    save(smaller, tmp_path)
    program = f"""
import torch
from compressors.checkpoint import load
model = load({str(tmp_path)!r})
with torch.no_grad():
    logits = model(input_ids=torch.arange(6)[None], attention_mask=torch.ones(1, 6, dtype=torch.long))
print(logits.view(torch.int32).tolist())
"""
    printed = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True).stdout
    with torch.no_grad():
        assert json.loads(printed.splitlines()[-1]) == smaller(**TOKENS).view(torch.int32).tolist()


def test_tied_weights_stay_tied(tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        use_cache=False,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    save(compress(model, [{"prune": {"ratio": {"ffn": 0.5}}}], {"input_ids": TOKENS["input_ids"]}), tmp_path)
    loaded = load(tmp_path)
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert loaded.model.layers[0].mlp.up_proj.out_features == 12


def edit(folder, change, *, sign=False):
    from compressors.checkpoint import _digest

    content = json.loads((folder / "structure.json").read_text())
    change(content)
    if sign:
        content.pop("digest")
        content["digest"] = _digest(content)
    (folder / "structure.json").write_text(json.dumps(content))


@pytest.fixture
def saved(tmp_path, point_net):
    save(compress(point_net(), [PRUNE], INPUTS), tmp_path / "model")
    return tmp_path / "model"


def test_a_changed_structure_is_refused(saved, point_net):
    def change(content):
        (axis,) = content["structure"]["kept"]
        content["structure"]["kept"][axis][0] += 1

    edit(saved, change)
    with pytest.raises(UserError, match=r"structure.json was changed after it was written"):
        load(saved, point_net())


def test_other_weights_are_refused(saved, point_net, tmp_path):
    save(point_net(), tmp_path / "other")
    (saved / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match=r"model.safetensors is not the file that was saved with structure.json"):
        load(saved, point_net())


def test_another_version_is_refused(saved, point_net):
    edit(saved, lambda content: content.update(version=7))
    with pytest.raises(UserError, match="checkpoint version 7; accepted: 2"):
        load(saved, point_net())


def test_another_model_is_refused(saved, point_net):
    with pytest.raises(UserError, match=r"does not fit PointNet: .* has 24 units .* the structure expects 16"):
        load(saved, point_net(24))
    with pytest.raises(UserError, match="does not fit Linear: the model has no parameter"):
        load(saved, nn.Linear(2, 2))


def test_another_quantized_model_is_refused(tmp_path, points, point_net):
    save(compress(point_net(), [{"quantize": {}}], INPUTS, points), tmp_path)
    with pytest.raises(UserError, match="does not fit PointNet"):
        load(tmp_path, point_net(24))


def test_a_compressed_instance_is_refused(saved, tmp_path, point_net):
    with pytest.raises(UserError, match="uncompressed instance"):
        load(saved, load(saved, point_net()))


def test_a_folder_that_names_no_architecture_asks_for_an_instance(saved):
    with pytest.raises(UserError, match=r"does not name an architecture; pass a fresh instance: load\(folder, model=...\)"):
        load(saved)


@pytest.mark.parametrize("name", ["AutoModel", "Trainer", "os.system", "nonsense"])
def test_only_classes_of_models_are_built_from_a_folder(tmp_path, name):
    save(bert(), tmp_path)
    edit(tmp_path, lambda content: content["architecture"].update({"class": name}), sign=True)
    with pytest.raises(UserError, match="is no model of transformers"):
        load(tmp_path)


def test_attention_from_the_hub_is_not_loaded(tmp_path):
    save(bert(), tmp_path)
    edit(tmp_path, lambda content: content["architecture"].update({"attention": "someone/kernel"}), sign=True)
    with pytest.raises(UserError, match="attention implementation 'someone/kernel'; accepted: eager, sdpa"):
        load(tmp_path)


def test_folders_that_are_no_checkpoints(tmp_path, point_net):
    with pytest.raises(UserError, match=r"is not a checkpoint: no readable structure.json"):
        load(tmp_path / "nothing", point_net())
    (tmp_path / "structure.json").write_text("{")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match=r"structure.json is not JSON"):
        load(tmp_path, point_net())


def test_a_folder_that_cannot_be_written(tmp_path, point_net):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write the checkpoint"):
        save(point_net(), tmp_path / "file" / "inside")
