"""Convolutions in two steps: what they start from, which they are, and that price, cuts, integers and files follow."""

import numpy as np
import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.depthwise_separable import DepthwiseSeparable, separable_errors, separated
from compressors.errors import CompressionError, DivergedError, UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.scoring import scores_of
from compressors.targets.onnx_session import OnnxSession
from compressors.targets.onnxruntime import OnnxRuntime
from evaluators.devices import device_named
from evaluators.devices.kernel_table import kernel_table
from search.space import Space
from tests.compressors.applied import applied

TARGET = OnnxRuntime()
IMAGES = {"input": torch.randn(2, 3, 12, 12, generator=torch.Generator().manual_seed(0))}
ALL = {"depthwise_separable": {}}


class Block(nn.Module):
    """Two convolutions that share a batch norm's place each, and a residual addition."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.up = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.near = nn.Conv2d(24, 24, 5, padding=4, dilation=2, bias=False)
        self.near_norm = nn.BatchNorm2d(24)
        self.mix = nn.Conv2d(24, 24, 1)
        self.deep = nn.Conv2d(24, 24, 3, padding=1, groups=24)
        self.head = nn.Linear(24, 5)

    def forward(self, input):  # noqa: A002 - as torch calls it
        x = self.up(torch.relu(self.norm(self.stem(input))))
        x = torch.relu(x + self.near_norm(self.near(x)))
        return self.head(torch.relu(self.deep(self.mix(x))).mean((2, 3)))


def images():
    torch.manual_seed(0)
    model = Block()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def made(recipe, model=None):
    return applied(recipe, model or images(), IMAGES)


def replaced(model):
    return list(model.compareto_structure["separable"])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(6, 10, 3, stride=2, padding=1),
        nn.Conv2d(6, 4, (1, 5), padding="same", dilation=2, bias=False),
        nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv1d(6, 10, 5, stride=3),
        nn.Conv2d(6, 10, 3).half(),
    ],
    ids=repr,
)
def test_a_kernel_that_is_separable_already_loses_nothing(layer):
    size = layer.kernel_size
    with torch.no_grad():
        kernels = torch.randn(layer.in_channels, *size)
        mixing = torch.randn(layer.out_channels, layer.in_channels, *[1] * len(size))
        layer.weight.copy_(mixing * kernels / 6)
        x = torch.randn(2, layer.in_channels, *[9] * len(size), dtype=layer.weight.dtype)
        both = separated(layer)
        assert both(x).shape == layer(x).shape
        assert torch.allclose(both(x), layer(x), atol=1e-4 if x.dtype == torch.float32 else 1e-2)
    assert both.bias is layer.bias
    assert both.first.groups == layer.in_channels
    assert both.first.weight.dtype == layer.weight.dtype


def test_any_other_kernel_becomes_the_nearest_separable_one():
    layer = nn.Conv2d(7, 11, 3)
    both = separated(layer)
    near = both.second.weight.detach() * both.first.weight.detach().transpose(0, 1)
    for i in range(7):
        values = torch.linalg.svdvals(layer.weight.detach()[:, i].flatten(1))
        assert torch.linalg.norm(near[:, i] - layer.weight[:, i]).item() == pytest.approx(values[1:].norm().item(), rel=1e-4)
    assert torch.allclose(both.first.weight.flatten(1).norm(dim=1), both.second.weight.flatten(1).norm(dim=0), rtol=1e-4)


def test_which_convolutions_and_in_which_order():
    assert replaced(made([ALL])[0]) == ["near", "stem", "up"]
    assert replaced(made([{"depthwise_separable": {"exclude": "stem"}}])[0]) == ["near", "up"]
    assert replaced(made([{"depthwise_separable": {"fraction": 0.3, "order": "most_macs"}}])[0]) == ["near"]
    model = images()
    with torch.no_grad():
        model.up.weight.copy_(torch.randn(24, 16, 1, 1) * torch.randn(1, 16, 3, 3) * 0.1)
    assert separable_errors(model, trace(model, IMAGES))["up.weight"][0] == pytest.approx(0, abs=1e-5)
    assert replaced(made([{"depthwise_separable": {"fraction": 0.3}}], model)[0]) == ["up"]
    assert len(replaced(made([{"depthwise_separable": {"fraction": 0.01}}])[0])) == 1
    twice = made([{"depthwise_separable": {"include": "up"}}, {"depthwise_separable": {"fraction": 0.5, "order": "most_macs"}}])[0]
    assert replaced(twice) == ["near", "up"]


RECIPES = {
    "all": [ALL],
    "pruned before": [{"prune": {"ratio": 0.5}}, ALL],
    "pruned after": [ALL, {"prune": {"ratio": 0.4}}],
    "some": [{"depthwise_separable": {"fraction": 0.4}}, {"low_rank": {"rank": 0.3}}, {"prune": {"ratio": 0.25}}],
    "quantized": [ALL, {"quantize": {"weight_bits": 8, "activation_bits": 16}}],
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_price_is_that_of_the_model_really_made(recipe):
    steps = [step for step in RECIPES[recipe] if "quantize" not in step]
    smaller, _, _ = made(steps)
    graph = trace(images(), IMAGES)
    plan = Recipe.from_plain(RECIPES[recipe])
    shapes = plan.plan(graph, {name: scores_of(images(), graph, name, None) for name in plan.criteria()})[-1].shapes(graph)
    again = trace(smaller, IMAGES, check_cuts=False)
    last = Recipe.from_plain(RECIPES[recipe][len(steps) :])
    theirs = last.plan(again, {})[-1].shapes(again) if last.steps else again.baseline()
    assert graph.count_parameters(shapes)[0] == sum(p.numel() for p in smaller.parameters()) < graph.parameters
    assert graph.count_macs(shapes)[0] == again.macs < graph.macs
    assert graph.activation_peak(shapes)[0] == again.activation_peak(again.baseline())[0]
    assert TARGET.stored_bytes(graph, shapes)[0] == TARGET.stored_bytes(again, theirs)[0]
    planned, found = kernel_table(graph, TARGET, shapes), kernel_table(again, TARGET, theirs)
    assert [k.op_class for k, there in zip(planned.kernels, planned.present[:, 0], strict=True) if there] == [k.op_class for k in found.kernels]
    for field in ("macs", "weights", "inputs", "outputs", "multiplied"):
        assert np.array_equal(getattr(planned, field)[planned.present[:, 0] > 0], getattr(found, field))
    for device in ("raspberry-pi-4/onnxruntime", "galaxy-s24/litert"):
        priced, actual = (device_named(device, "onnxruntime").cost(g, s) for g, s in ((graph, shapes), (again, theirs)))
        for name in ("latency_ms", "peak_memory_bytes", "energy_mj"):
            assert priced[name].value[0] == pytest.approx(actual[name].value[0], rel=1e-9)


def test_a_candidates_price_does_not_depend_on_its_company():
    graph = trace(images(), IMAGES)
    plans = [[], [ALL], [{"low_rank": {"rank": 0.25}}]]
    rows = [(Recipe.from_plain(p).plan(graph, {}) or (GraphEdit.identity(graph),))[-1].shapes(graph) for p in plans]
    device = device_named("raspberry-pi-4/onnxruntime", "onnxruntime")
    together = device.cost(graph, type(rows[0]).concatenate(rows))
    for i, row in enumerate(rows):
        for name, values in device.cost(graph, row).items():
            assert together[name].value[i] == pytest.approx(values.value[0], rel=1e-9), name


def test_pruning_what_was_replaced_removes_the_same_channels():
    both, whole = made([ALL, {"prune": {"ratio": 0.5}}])[0], made([ALL])[0]
    kept = both.compareto_structure["kept"]["stem"]
    with torch.no_grad():
        assert torch.allclose(both.stem(IMAGES["input"]), whole.stem(IMAGES["input"])[:, kept], atol=1e-6)
    assert both.up.first.weight.shape[0] == both.up.first.groups == both.up.second.weight.shape[1] == len(kept)


@pytest.mark.parametrize("quantize", [{"mode": "static"}, pytest.param({"weight_bits": 4, "activation_bits": 16}, marks=pytest.mark.slow), None], ids=str)
def test_the_file_gives_the_models_answers_and_has_the_bytes_that_were_priced(quantize, tmp_path):
    class Given:
        def batches(self, split, **_):
            from compressors.context import Batch

            torch.manual_seed(1)
            return iter([Batch({"input": torch.randn(32, 3, 12, 12)}, torch.zeros(32, dtype=torch.long))])

        def steps(self, split, **_):
            return 1

    model = images()
    graph = trace(model, IMAGES)
    recipe = Recipe.from_plain([ALL, {"prune": {"ratio": 0.3}}, *([{"quantize": quantize}] if quantize else [])])
    edits = recipe.plan(graph, {name: scores_of(model, graph, name, None) for name in recipe.criteria()})
    context = Context(Given(), model, graph, IMAGES, TARGET)
    for step, edit in zip(recipe.steps, edits, strict=True):
        model = step.apply(model, edit, context)
    path = TARGET.export(model, IMAGES, tmp_path)
    with torch.no_grad():
        ours = model(**IMAGES).numpy()
    theirs = OnnxSession(path, 1)({name: value.numpy() for name, value in IMAGES.items()})["logits"]
    np.testing.assert_allclose(ours, theirs, atol=(0.02 if quantize else 1e-5) * np.abs(ours).max())
    assert TARGET.file_bytes(path) == pytest.approx(TARGET.stored_bytes(graph, edits[-1].shapes(graph))[0], rel=0.01)


def test_a_checkpoint_is_the_same_model(tmp_path):
    smaller = made([ALL, {"prune": {"ratio": 0.3}}])[0]
    save(smaller, tmp_path)
    with torch.no_grad():
        assert torch.equal(load(tmp_path, images())(**IMAGES), smaller(**IMAGES))
    with pytest.raises(UserError, match="does not fit"):
        load(tmp_path, nn.Sequential(nn.Conv2d(3, 2, 3)))


def test_a_search_varies_how_many_as_an_ordered_number():
    space = Space.from_plain([{"optional": {"depthwise_separable": {"fraction": {"uniform": [0.25, 1.0]}, "order": {"choice": ["least_error", "most_macs"]}}}}])
    rng = np.random.default_rng(0)
    found = [space.recipe(space.sample(rng)).steps for _ in range(20)]
    assert {len(steps) for steps in found} == {0, 1}
    assert len({step.fraction for steps in found for step in steps}) > 5
    assert {step.order for steps in found for step in steps} == {"least_error", "most_macs"}
    assert DepthwiseSeparable(fraction=0.5).criteria() == ("separable_error",)
    assert DepthwiseSeparable(fraction=0.5, order="most_macs").criteria() == DepthwiseSeparable().criteria() == ()


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"fraction": 0}, "greater than 0, got 0"), ({"fraction": 1.5}, "less than or equal to 1, got 1.5"), ({"order": "size"}, "'least_error' or 'most_macs'")],
)
def test_a_mistake_is_one_clear_error(settings, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_plain([{"depthwise_separable": settings}])


def test_what_cannot_be_done_says_why():
    with pytest.raises(UserError, match=r"include: include \['mix'\] leave no convolution that it could replace; accepted: stem, up, near"):
        compress(images(), [{"depthwise_separable": {"include": "mix"}}], IMAGES)
    with pytest.raises(UserError, match="the model has no convolution that it could replace; accepted: convolutions in one or two dimensions"):
        compress(nn.Sequential(nn.Linear(4, 4)), [ALL], {"input": torch.randn(2, 4)})
    with pytest.raises(UserError, match="'conv9' matches nothing in the model"):
        compress(images(), [{"depthwise_separable": {"exclude": "conv9"}}], IMAGES)
    with pytest.raises(CompressionError, match="accepted: depthwise_separable before sparsify"):
        compress(images(), [{"sparsify": {"ratio": 0.5}}, ALL], IMAGES)
    broken = images()
    with torch.no_grad():
        broken.up.weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(DivergedError, match="not finite"):
        compress(broken, [ALL], IMAGES)
