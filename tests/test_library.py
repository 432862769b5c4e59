"""The library as a caller without an experiment uses it: any ``nn.Module``, and nothing but the names of ``compareto``."""

import contextlib
import hashlib
import inspect
import json

import pytest
import torch
from torch import nn

import compareto
from compressors.context import Batch

INPUTS = (torch.zeros(2, 3, 8, 8),)
PRUNE = [{"prune": {"criterion": "l2", "ratio": {"channels": 0.5}}}]


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.hidden = nn.Linear(width, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, image):
        return self.head(self.hidden(self.norm(self.conv(image)).relu().mean((2, 3))).relu())


class Branching(Net):
    def forward(self, image):
        logits = super().forward(image)
        return logits if logits.sum() > 0 else -logits


def net(kind=Net, width=8):
    """Partly in train mode, partly frozen, and with a hook of the caller's."""
    torch.manual_seed(0)
    model = kind(width).train()
    model.norm.eval()
    model.hidden.weight.requires_grad_(False)
    model.conv.register_forward_hook(lambda module, args, output: output)
    return model


def llama(**changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(**{**sizes, "use_cache": False, **changes})).eval()


TOKENS = (torch.arange(2, 8)[None],)


@contextlib.contextmanager
def unchanged(model):
    """Weights and buffers are the same objects with the same values, flags and no gradients; modes, hooks and attributes are as they were."""

    def tensors():
        return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers(remove_duplicate=False))}

    def surroundings():
        kinds = (bool, int, float, str, tuple)
        return {
            name: (
                type(module),
                module.training,
                {key: list(hooks) for key, hooks in vars(module).items() if key.endswith("_hooks")},
                {key: value if isinstance(value, kinds) else None for key, value in vars(module).items()},
            )
            for name, module in model.named_modules()
        }

    before = {name: (tensor, tensor.detach().clone(), tensor.requires_grad) for name, tensor in tensors().items()}
    around = surroundings()
    yield
    after = tensors()
    assert list(after) == list(before)
    for name, (tensor, value, flag) in before.items():
        assert after[name] is tensor, name
        assert torch.equal(tensor, value), name
        assert (tensor.requires_grad, tensor.grad) == (flag, None), name
    assert surroundings() == around


def test_the_calls_have_the_arguments_that_scripts_name():
    names = {name: list(inspect.signature(getattr(compareto, name)).parameters) for name in ("trace", "compress", "save", "load")}
    assert names["trace"][:2] == ["model", "example_inputs"]
    assert names["compress"][:4] == ["model", "recipe", "example_inputs", "data"]
    assert names["save"][:2] == ["model", "folder"]
    assert names["load"] == ["folder", "model"]
    assert inspect.signature(compareto.compress).parameters["data"].default is None
    assert inspect.signature(compareto.load).parameters["model"].default is None


def test_a_trace_says_what_can_be_cut_and_why_the_rest_cannot():
    model = net()
    graph = compareto.trace(model, INPUTS)
    assert type(graph).__name__ == "ModelGraph"
    axes = {axis.name: (axis.kind, axis.size) for axis in graph.axes if axis.fixed is None}
    assert axes == {"conv": ("channels", 8), "hidden": ("ffn", 6)}
    (logits,) = [axis for axis in graph.axes if "head" in axis.modules and axis.size == 4]
    assert logits.fixed == "the model returns it"
    assert all(axis.fixed is None or (isinstance(axis.fixed, str) and axis.fixed) for axis in graph.axes)
    assert graph.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert graph.macs == 2 * (8 * 36 * 27 + 8 * 6 + 6 * 4)


def test_a_recipe_and_its_plain_list_give_the_same_model_and_leave_the_original():
    model = net()
    with unchanged(model):
        first = compareto.compress(model, PRUNE, INPUTS, data=None)
        second = compareto.compress(model, compareto.Recipe.from_plain(PRUNE), INPUTS)
    x = torch.randn(3, 3, 8, 8)
    assert torch.equal(first.eval()(x), second.eval()(x))
    assert first.conv.out_channels == 4
    assert compareto.trace(first, INPUTS).parameters == sum(parameter.numel() for parameter in first.parameters())


class Data:
    """Sixteen images, as a caller brings them."""

    higher_is_better = True

    def batches(self, split, *, seed=None, batch_size=None):
        images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        for rows in torch.arange(16).split(batch_size or 8):
            yield Batch({"image": images[rows]}, rows % 4)

    def steps(self, split, *, batch_size=None):
        return -(-16 // (batch_size or 8))

    def loss(self, logits, batch):
        return nn.functional.cross_entropy(logits, batch.labels)

    def score(self, model, split):
        return "accuracy", 0.25


STEPS = {
    **{name: {"prune": {"ratio": 0.5, "criterion": name}} for name in ("l1", "bn_scale", "taylor", "activation", "random")},
    "prune_iteratively": {"prune_iteratively": {"ratio": 0.5, "rounds": 2, "recover": {"steps": 2}, "frozen": "head"}},
    "low_rank": {"low_rank": {"rank": 0.3}},
    "sparsify": {"sparsify": {"ratio": 0.5}},
    "distill": {"distill": {"steps": 1}},
    "quantize": {"quantize": {"weight_bits": 8}},
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_no_step_touches_the_model(step):
    model = net()
    with unchanged(model):
        compareto.compress(model, [step], INPUTS, data=Data())


@pytest.mark.parametrize("training", [True, False])
def test_modes_flags_and_hooks_go_over_to_the_copy(training):
    model = net().train(training)
    model.norm.eval()
    with unchanged(model):
        compareto.trace(model, INPUTS)
        smaller = compareto.compress(model, PRUNE, INPUTS)
    assert {name: module.training for name, module in smaller.named_modules()} == {name: module.training for name, module in model.named_modules()}
    flags = {name: parameter.requires_grad for name, parameter in smaller.named_parameters()}
    assert [name for name, flag in flags.items() if not flag] == ["hidden.weight"]
    assert len(smaller.conv._forward_hooks) == 1


def test_a_plain_module_comes_back_into_an_instance_whose_mode_it_follows(tmp_path):
    smaller = compareto.compress(net(), PRUNE, INPUTS)
    with unchanged(smaller):
        compareto.save(smaller, tmp_path)
    x = torch.randn(3, 3, 8, 8)
    for fresh in (Net().train(), Net().eval()):
        with unchanged(fresh):
            loaded = compareto.load(tmp_path, model=fresh)
        assert loaded.training == fresh.training == loaded.norm.training
        assert torch.equal(loaded.eval()(x), smaller.eval()(x))
    with pytest.raises(compareto.UserError, match=r"does not name an architecture; pass a fresh instance"):
        compareto.load(tmp_path)


def test_a_model_of_transformers_needs_no_instance(tmp_path):
    smaller = compareto.compress(llama(), [{"prune": {"ratio": {"ffn": 0.5, "kv_groups": 0.5}}}], TOKENS)
    compareto.save(smaller, tmp_path)
    loaded = compareto.load(tmp_path)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(*TOKENS).logits, smaller(*TOKENS).logits)


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: llama(num_key_value_heads=1), TOKENS),
        (lambda: net(width=1), INPUTS),
        (lambda: nn.Sequential(nn.Linear(4, 1), nn.ReLU(), nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 3)), (torch.zeros(2, 4),)),
    ],
    ids=["a single group of keys", "a single channel", "a single feature"],
)
def test_an_axis_of_one_unit_is_fixed(make, inputs):
    model = make().eval()
    graph = compareto.trace(model, inputs)
    assert [axis.name for axis in graph.axes if axis.fixed is None and axis.size == 1] == []
    with torch.no_grad():
        compareto.compress(model, [{"prune": {"ratio": 0.5}}], inputs)(*inputs)


def test_a_single_group_of_keys_keeps_its_head():
    smaller = compareto.compress(llama(num_key_value_heads=1), [{"prune": {"ratio": 0.5}}], TOKENS)
    assert smaller.model.layers[0].self_attn.k_proj.out_features == 8
    assert smaller.model.layers[0].mlp.up_proj.out_features == 28


def test_any_ratio_below_one_keeps_a_unit_of_every_axis():
    model = llama()
    kinds = sorted({axis.kind for axis in compareto.trace(model, TOKENS).axes if axis.fixed is None})
    assert kinds == ["blocks", "ffn", "hidden", "kv_groups"]
    smaller = compareto.compress(model, [{"prune": {"ratio": dict.fromkeys(kinds, 0.999)}}], TOKENS)
    kept = smaller.compareto_structure["kept"]
    assert len(kept) == 6
    assert {len(units) for units in kept.values()} == {1}
    assert smaller(*TOKENS).logits.shape == (1, 6, 64)


# What a caller can get wrong: one message, and the model is as it was.

WRONG = {
    "cannot be traced": (Branching, PRUNE, INPUTS, r"cannot trace Branching(.|\n)*return logits if logits\.sum\(\) > 0(.|\n)*what to change: use torch\.where"),
    "a ratio that empties": (Net, [{"prune": {"ratio": {"channels": 1.0}}}], INPUTS, r"recipe\[0\]\.prune\.ratio.*\[0, 1\), got"),
    "a ratio that empties a layer": (
        Net,
        [{"prune": {"layers": {"conv": 1}}}],
        INPUTS,
        r"prune\.layers.*'conv' must be a number in \[0, 1\), got 1",
    ),
    "a kind that is not there": (Net, [{"prune": {"ratio": {"heads": 0.5}}}], INPUTS, r"no prunable axis of kind 'heads'; the model has channels, ffn"),
    "no kind at all": (Net, [{"prune": {"ratio": {"chanels": 0.5}}}], INPUTS, r"unknown kind 'chanels'; accepted: channels, .*did you mean 'channels'"),
    "inputs of a wrong shape": (Net, PRUNE, (torch.zeros(2, 1, 8, 8),), r"\(0: \[2, 1, 8, 8\] float32\)(.|\n)*in module conv(.|\n)*accepted: forward\(image\)"),
    "no tuple": (Net, PRUNE, INPUTS[0], r"must be a tuple of tensors .* of one tensor x it is \(x,\)"),
}


@pytest.mark.parametrize(("kind", "recipe", "inputs", "said"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_done_is_one_message_and_changes_nothing(kind, recipe, inputs, said):
    model = net(kind)
    with unchanged(model), pytest.raises(compareto.ComparetoError, match=said) as caught:
        compareto.compress(model, recipe, inputs)
    assert isinstance(caught.value, compareto.UserError | compareto.CompressionError)


@pytest.fixture
def saved(tmp_path):
    compareto.save(compareto.compress(net(), PRUNE, INPUTS), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: net(width=12), r"does not fit Net: conv.weight has 12 units .*, the structure expects 8"),
        (lambda: nn.Linear(3, 3), "does not fit Linear"),
    ],
    ids=["other sizes", "another class"],
)
def test_a_checkpoint_of_another_model_is_one_message_and_changes_nothing(saved, make, said):
    model = make()
    with unchanged(model), pytest.raises(compareto.UserError, match=said):
        compareto.load(saved, model)


def unit_out_of_range(structure):
    structure["kept"]["conv"][-1] = 8


def units_doubled(structure):
    structure["kept"]["conv"][1] = structure["kept"]["conv"][0]


def nothing_kept(structure):
    structure["kept"]["conv"] = []


def negative_unit(structure):
    structure["kept"]["conv"][0] = -1


def another_size(structure):
    structure["sizes"]["conv"] = 9


def endless_size(structure):
    structure["sizes"]["conv"] = 10**12


def another_parameter(structure):
    structure["dims"][0][0] = "conv.wieght"


def another_dimension(structure):
    structure["dims"][0][1] = 7


def an_unknown_axis(structure):
    structure["dims"][0][2] = [["covn"]]


def a_block_that_is_not_there(structure):
    structure["dropped"] = [{"path": "nowhere", "sources": [None], "single": True}]


def no_dims(structure):
    del structure["dims"]


TAMPERED = [unit_out_of_range, units_doubled, nothing_kept, negative_unit, another_size, endless_size, another_parameter, another_dimension, an_unknown_axis]


@pytest.mark.parametrize("change", [*TAMPERED, a_block_that_is_not_there, no_dims], ids=lambda change: change.__name__)
@pytest.mark.parametrize("signed", [False, True], ids=["as found", "with a new digest"])
def test_a_tampered_structure_is_one_message_and_changes_nothing(saved, change, signed):
    path = saved / "structure.json"
    content = json.loads(path.read_text())
    change(content["structure"])
    if signed:
        del content["digest"]
        content["digest"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))
    said = "does not fit Net: |does not describe a structure of Net: " if signed else r"structure\.json was changed after it was written"
    model = net()
    with unchanged(model), pytest.raises(compareto.UserError, match=said) as caught:
        compareto.load(saved, model)
    assert str(saved) in str(caught.value)
