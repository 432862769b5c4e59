"""``quantize: {mixed: ...}`` from the recipe to the model."""

import itertools

import numpy as np
import pydantic
import pytest
import torch
from torch import nn

from compressors.context import Batch
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.quantization import Quantize
from compressors.quantization.assignment import assign
from compressors.quantization.mixed import alternatives
from compressors.quantization.sensitivity import BITS
from compressors.recipe import Recipe
from compressors.scoring import scores_of
from compressors.targets import target_named
from compressors.targets.onnx_packing import weight_bytes

TARGET = target_named("onnxruntime")
INPUTS = {"x": torch.zeros(2, 64)}
WEIGHT_ONLY = {"activation_bits": "float", "granularity": 32}


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        widths = [64, 96, 32, 128, 64, 4]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return self.layers[-1](x)


class Data:
    def batches(self, split, *, seed=None, batch_size=None):
        x = torch.randn(64, 64, generator=torch.Generator().manual_seed(2))
        yield Batch({"x": x}, (x[:, 0] > 0).long())


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return Chain().eval()


@pytest.fixture(scope="module")
def graph(model):
    return trace(model, INPUTS)


@pytest.fixture(scope="module")
def scores(model, graph):
    names = [*step(budget_bits=4).criteria(), *Quantize(mixed={"budget_bits": 4}).criteria(), "l2"]
    return {name: scores_of(model, graph, name, Data(), TARGET) for name in names}


def step(choices=BITS, **budget):
    return Quantize.from_config({"mixed": {**budget, "choices": list(choices)}, **WEIGHT_ONLY})


def planned(graph, scores, *steps):
    edit = Recipe(steps).plan(graph, scores)[-1]
    return edit, int(TARGET.stored_bytes(graph, edit.shapes(graph))[0])


def mean_bits(graph, edit):
    widths = edit.shapes(graph).widths
    elements = np.array([int(site.elements.evaluate(widths)[0]) for site in graph.sites])
    return float((edit.weight_bits * elements).sum() / elements.sum())


def test_bits_follow_the_budget(graph, scores):
    lost = []
    for budget in (2.5, 3, 4, 5.5, 7):
        edit, _ = planned(graph, scores, step(budget_bits=budget))
        assert budget - 1 < mean_bits(graph, edit) <= budget
        losses = scores[step(budget_bits=4).criteria()[0]]
        lost.append(sum(losses[site.name][BITS.index(edit.weight_bits[i])] for i, site in enumerate(graph.sites)))
    assert lost == sorted(lost, reverse=True)
    assert (planned(graph, scores, step(budget_bits=8))[0].weight_bits == 8).all()
    assert (planned(graph, scores, step(budget_bits=2))[0].weight_bits == 2).all()


def test_bytes_are_those_of_the_whole_model_and_are_kept(graph, scores, model, tmp_path):
    import onnx

    uniform = planned(graph, scores, Quantize(weight_bits=4, **WEIGHT_ONLY))[1]
    for budget in (uniform, 1.3 * uniform, 0.8 * uniform):
        edit, priced = planned(graph, scores, step(budget_bytes=budget))
        assert 0.9 * budget < priced <= budget
    recipe = [{"quantize": {"mixed": {"budget_bytes": budget}, **WEIGHT_ONLY}}]
    made = compress(model, recipe, INPUTS, Data())
    assert made.compareto_structure["quantize"]["weight_bits"] == {site.name: int(edit.weight_bits[i]) for i, site in enumerate(graph.sites)}
    assert len(set(edit.weight_bits)) > 1
    assert weight_bytes(onnx.load(TARGET.export(made, INPUTS, tmp_path))) == priced


def test_widths_that_the_format_does_not_store_are_no_choices(graph, scores):
    assert set(planned(graph, scores, step(budget_bits=4.5))[0].weight_bits) <= {2, 4, 8}
    by_channel = Quantize(mixed={"budget_bits": 4.5}, activation_bits="float")
    assert set(planned(graph, scores, by_channel)[0].weight_bits) == {4, 8}
    with pytest.raises(CompressionError, match=r"mixed.budget_bits 3.5 is too small; accepted: at least 4 \(onnxruntime stores 4, 8 bits\)"):
        planned(graph, scores, Quantize(mixed={"budget_bits": 3.5}, activation_bits="float"))
    with pytest.raises(CompressionError, match=r"onnxruntime stores layers.0.weight in no 3 bits; accepted: choices with 2 or 4 or 8"):
        planned(graph, scores, step(choices=[3], budget_bits=4))


def test_a_runtime_that_stores_floats_has_no_widths_to_choose(model):
    with pytest.raises(CompressionError, match=r"torch stores layers.0.weight in no 4 or 8 bits; accepted: another target"):
        compress(model, [{"quantize": {"mixed": {"budget_bits": 4, "choices": [4, 8]}}}], INPUTS, Data(), target="torch")


def test_a_budget_that_nothing_fits_names_the_least(graph, scores):
    least = planned(graph, scores, step(budget_bits=2))[1]
    with pytest.raises(CompressionError, match=f"mixed.budget_bytes 100 is too small; accepted: at least {least:,} "):
        planned(graph, scores, step(budget_bytes=100))
    assert planned(graph, scores, step(budget_bytes=least))[1] == least


def test_after_a_cut_the_budget_is_that_of_what_is_left(graph, scores, model):
    prune = {"prune": {"criterion": "l2", "ratio": 0.5, "round_to": 32}}
    cut = Recipe.from_plain([prune]).steps[0]
    uniform = planned(graph, scores, cut, Quantize(weight_bits=4, **WEIGHT_ONLY))[1]
    edit, priced = planned(graph, scores, cut, step(budget_bytes=uniform))
    assert 0.85 * uniform < priced <= uniform
    assert mean_bits(graph, planned(graph, scores, cut, step(budget_bits=5))[0]) <= 5
    made = compress(model, [prune, {"quantize": {"mixed": {"budget_bytes": uniform}, **WEIGHT_ONLY}}], INPUTS, Data())
    assert list(made.compareto_structure["quantize"]["weight_bits"].values()) == edit.weight_bits.tolist()


class Repeated(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(64, 4)

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_layers_that_share_a_weight_have_the_same_bits():
    torch.manual_seed(0)
    model = Repeated().eval()
    share = {"share_weights": {"groups": [["blocks.0", "blocks.2"]]}}
    made = compress(model, [share, {"quantize": {"mixed": {"budget_bits": 4.1, "choices": [2, 4, 8]}, **WEIGHT_ONLY}}], INPUTS, Data())
    bits = made.compareto_structure["quantize"]["weight_bits"]
    assert bits["blocks.0.0.weight"] == bits["blocks.2.0.weight"]
    stored = [bits[f"blocks.{i}.0.weight"] for i in (0, 1, 3)]
    assert (64 * 64 * sum(stored) + 4 * 64 * bits["head.weight"]) / (3 * 64 * 64 + 4 * 64) <= 4.1


def test_sites_with_bits_of_their_own_and_others_keep_out_of_it(graph, scores):
    mixed = {"budget_bits": 4, "choices": [2, 4, 8]}
    own = Quantize(mixed=mixed, overrides={"layers.0": {"weight_bits": 16}}, exclude="layers.4", **WEIGHT_ONLY)
    bits = planned(graph, scores, own)[0].weight_bits
    assert (bits[0], bits[4]) == (16, 32)
    elements = np.array([int(site.elements.evaluate(graph.baseline().widths)[0]) for site in graph.sites])[1:4]
    assert (bits[1:4] * elements).sum() <= 4 * elements.sum()
    with pytest.raises(CompressionError, match="every weight has bits of its own by overrides"):
        planned(graph, scores, Quantize(mixed=mixed, overrides={"*": {"weight_bits": 8}}, **WEIGHT_ONLY))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mixed": {}}, "give either budget_bits or budget_bytes"),
        ({"mixed": {"budget_bits": 4, "budget_bytes": 4}}, "give either budget_bits or budget_bytes"),
        ({"mixed": {"budget_bits": 4}, "weight_bits": 4}, "give either weight_bits or mixed"),
        ({"mixed": {"budget_bits": 4}, "overrides": {"head": {"granularity": 64}}}, "must say weight_bits"),
        ({"mixed": {"budget_bits": 0}}, "greater than 0"),
        ({"mixed": {"budget_bits": 4, "choices": [5]}}, "2, 3, 4 or 8"),
        ({"mixed": {"budget_bits": 4, "choices": []}}, "at least 1"),
    ],
)
def test_a_budget_is_said_once_and_well(config, message):
    with pytest.raises(pydantic.ValidationError, match=message):
        Quantize.from_config(config)


def test_the_configuration_comes_back():
    first = step(budget_bits=4.5, choices=(4, 8))
    assert Quantize.from_config(first.to_config()) == first
    assert Recipe((first,)).fingerprint != Recipe((step(budget_bits=4.6, choices=(4, 8)),)).fingerprint


def test_without_data_the_error_says_what_to_pass(model):
    with pytest.raises(UserError, match="pass data="):
        compress(model, [{"quantize": {"mixed": {"budget_bits": 4}}}], INPUTS)


def test_any_cost_can_be_a_budget(graph, scores):
    """Multiply-accumulates times bits, as a stand-in for a latency: priced on the alternatives, assigned, and applied as overrides."""
    edit = planned(graph, scores, Quantize(**WEIGHT_ONLY))[0]
    sites, choices = range(len(graph.sites)), (2, 4, 8)
    rows = alternatives(graph, edit, [(i,) for i in sites], choices)
    priced = (rows.weight_bits * np.array([1, 50, 1, 1, 1])).sum(1)
    costs = (priced[1:] - priced[0]).reshape(len(graph.sites), len(choices))
    losses = np.array([scores[step(budget_bits=4).criteria()[0]][site.name][[BITS.index(c) for c in choices]] for site in graph.sites])
    losses[-1] = [1, 0.5, 0]
    found = assign(losses, costs, 150 - priced[0] + 2 * 54)
    bits = {graph.sites[i].name: {"weight_bits": choices[found[i]]} for i in sites}
    assert bits["layers.1.weight"]["weight_bits"] == 4
    applied = planned(graph, scores, Quantize(overrides=bits, **WEIGHT_ONLY))[0]
    assert applied.weight_bits.tolist() == [choices[i] for i in found]
