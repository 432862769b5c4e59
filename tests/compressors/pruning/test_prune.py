"""The ``prune`` step: from configuration to a smaller model."""

import types

import numpy as np
import pytest
import torch
from torch import nn

from compressors.compressor import GraphEdit
from compressors.context import Batch, Context
from compressors.errors import CompressionError, DivergedError, UserError
from compressors.graph import trace
from compressors.pruning import Prune, score
from compressors.recipe import Recipe
from tests.conformance.families import build


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16, 12), nn.ReLU(), nn.Linear(12, 3)
    )


INPUTS = {"input": torch.randn(2, 1, 4, 4)}


@pytest.fixture(scope="module")
def traced():
    model = small()
    graph = trace(model, INPUTS)
    return model, graph, {name: score(model, graph, name) for name in ("l1", "l2")}


def batches(n=3):
    generator = torch.Generator().manual_seed(1)
    return [Batch({"input": torch.randn(8, 1, 4, 4, generator=generator)}, torch.randint(0, 3, (8,), generator=generator)) for _ in range(n)]


def loss(logits, batch):
    return nn.functional.cross_entropy(logits, batch.labels)


def widths(edit, graph):
    return {a.name: len(edit.kept[a.name]) for a in graph.prunable if a.name in edit.kept}


def test_local_scope_cuts_every_axis_of_the_kind_alike(traced):
    _, graph, scores = traced
    edit = Prune(ratio={"channels": 0.5}).plan(graph, scores, GraphEdit.identity(graph))
    assert widths(edit, graph) == {"0": 4, "2": 8}


def test_one_ratio_holds_for_every_kind(traced):
    _, graph, scores = traced
    edit = Prune(ratio=0.25).plan(graph, scores, GraphEdit.identity(graph))
    assert widths(edit, graph) == {"0": 6, "2": 12, "5": 9}


def test_global_scope_removes_the_share_of_all_units_and_leaves_every_layer_something(traced):
    _, graph, scores = traced
    edit = Prune(ratio={"channels": 0.5}, scope="global").plan(graph, scores, GraphEdit.identity(graph))
    assert sum(len(edit.kept.get(n, range(s))) for n, s in (("0", 8), ("2", 16))) == 12
    nearly_all = Prune(ratio={"channels": 0.99}, scope="global", min_units=2).plan(graph, scores, GraphEdit.identity(graph))
    assert widths(nearly_all, graph) == {"0": 2, "2": 2}


def test_the_least_important_units_go():
    model = small()
    with torch.no_grad():
        model[0].weight[3] = 0
        model[2].weight[:, 3] = 0
    graph = trace(model, INPUTS)
    for criterion in ("l1", "l2", "taylor"):
        scores = {criterion: score(model, graph, criterion, batches(), loss)}
        edit = Prune(criterion=criterion, ratio={"channels": 1 / 8}, include="0").plan(graph, scores, GraphEdit.identity(graph))
        assert list(edit.kept["0"]) == [0, 1, 2, 4, 5, 6, 7]


def test_widths_are_multiples_of_round_to(traced):
    _, graph, scores = traced
    edit = Prune(ratio=0.4, round_to=4).plan(graph, scores, GraphEdit.identity(graph))
    assert {name: n % 4 for name, n in widths(edit, graph).items()} == {"0": 0, "2": 0, "5": 0}


def test_include_and_exclude_choose_axes(traced):
    _, graph, scores = traced
    edit = Prune(ratio=0.5, exclude=("2",)).plan(graph, scores, GraphEdit.identity(graph))
    assert set(edit.kept) == {"0", "5"}


def test_a_floor_is_met_in_multiples_of_round_to(traced):
    _, graph, scores = traced
    edit = Prune(ratio=0.99, round_to=4, min_units=5).plan(graph, scores, GraphEdit.identity(graph))
    assert widths(edit, graph) == {"2": 8, "5": 8}, "axis 0 has no more than 8 units, and keeps them"


def test_units_below_a_threshold_go(traced):
    _, graph, _ = traced
    values = {"0": [4, 4, 4, 4, 4, 4, 0.1, 3.9], "2": [1.0] * 8 + [7.0] * 8, "5": [0.0] * 12}
    scores = {"l2": {name: np.array(v) for name, v in values.items()}}
    edit = Prune(threshold=0.3).plan(graph, scores, GraphEdit.identity(graph))
    assert {name: list(units) for name, units in edit.kept.items()} == {"0": [0, 1, 2, 3, 4, 5, 7], "2": list(range(8, 16))}
    assert not Prune(threshold=0).plan(graph, scores, GraphEdit.identity(graph)).kept
    by_kind = Prune(threshold={"ffn": 100.0}, min_units=3).plan(graph, scores, GraphEdit.identity(graph))
    assert list(by_kind.kept["5"]) == [0, 1, 2], "what is far below every threshold keeps its floor"


def test_layers_with_a_ratio_of_their_own(traced):
    _, graph, scores = traced
    edit = Prune(ratio=0.5, layers={"0": 0.25, "5": 0}).plan(graph, scores, GraphEdit.identity(graph))
    assert widths(edit, graph) == {"0": 6, "2": 8}
    alone = Prune(layers={"[02]": 0.5}).plan(graph, scores, GraphEdit.identity(graph))
    assert widths(alone, graph) == {"0": 4, "2": 8}
    excluded = Prune(layers={"[02]": 0.5}, exclude="0").plan(graph, scores, GraphEdit.identity(graph))
    assert widths(excluded, graph) == {"2": 8}


def test_a_global_ratio_leaves_explicit_layers_to_themselves(traced):
    _, graph, scores = traced
    edit = Prune(ratio={"channels": 0.5}, scope="global", layers={"0": 0.125}).plan(graph, scores, GraphEdit.identity(graph))
    assert widths(edit, graph) == {"0": 7, "2": 8}


def test_patterns_of_layers_that_match_nothing_or_twice(traced):
    _, graph, scores = traced
    with pytest.raises(CompressionError, match="'7' matches no prunable axis"):
        Prune(layers={"7": 0.5}).plan(graph, scores, GraphEdit.identity(graph))
    with pytest.raises(CompressionError, match=r"both '0' and '\[02\]' match '0'; accepted: one ratio for each layer"):
        Prune(layers={"0": 0.5, "[02]": 0.5}).plan(graph, scores, GraphEdit.identity(graph))


def test_a_pattern_of_layers_never_reaches_the_residual_stream_or_the_depth():
    model, inputs = build("distilbert")
    graph = trace(model, inputs, check_cuts=False)
    scores = {"l2": score(model, graph, "l2")}
    step = Prune(layers={"distilbert.transformer.layer.*": 0.5})
    kinds = {a.name: a.kind for a in graph.axes}
    assert {kinds[name] for name in step.plan(graph, scores, GraphEdit.identity(graph)).kept} == {"heads", "ffn"}
    (depth,) = (a for a in graph.prunable if a.kind == "blocks")
    assert list(Prune(layers={depth.name: 0.5}).plan(graph, scores, GraphEdit.identity(graph)).kept) == [depth.name]
    with pytest.raises(CompressionError, match="did you mean 'distilbert"):
        Prune(layers={"distilbert.transformer.layers": 0.5}).plan(graph, scores, GraphEdit.identity(graph))


def test_a_second_step_prunes_what_the_first_has_left(traced):
    _, graph, scores = traced
    first = Prune(ratio=0.5).plan(graph, scores, GraphEdit.identity(graph))
    second = Prune(ratio=0.5).plan(graph, scores, first)
    assert widths(second, graph) == {"0": 2, "2": 4, "5": 3}
    assert all(set(second.kept[name]) <= set(first.kept[name]) for name in first.kept)


def test_apply_yields_the_planned_model_and_leaves_the_original(traced):
    model, graph, scores = traced
    edit = Prune(ratio=0.5).plan(graph, scores, GraphEdit.identity(graph))
    context = Context(data=None, teacher=None, graph=graph, example_inputs=INPUTS, target=types.SimpleNamespace())
    smaller = Prune(ratio=0.5).apply(model, edit, context)
    assert (smaller[0].out_channels, smaller[2].in_channels, smaller[5].in_features) == (4, 4, 8 * 16)
    assert sum(p.numel() for p in smaller.parameters()) == graph.count_parameters(edit.shapes(graph))[0]
    assert model[0].out_channels == 8


def test_a_kind_that_the_model_does_not_have_names_those_it_has(traced):
    _, graph, scores = traced
    with pytest.raises(CompressionError, match="no prunable axis of kind 'heads'; the model has channels, ffn"):
        Prune(ratio={"heads": 0.5}).plan(graph, scores, GraphEdit.identity(graph))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"ratio": 1.0}, r"\[0, 1\)"),
        ({"ratio": {"chanels": 0.1}}, "did you mean 'channels'"),
        ({"ratio": {"ffn": 2}}, "the ratio of ffn must be a number in .*got 2"),
        ({"ratio": 0.5, "criterion": "l3"}, "'l1', 'l2', 'bn_scale', 'taylor', 'activation' or 'random'"),
        ({"ratio": 0.5, "ratios": 1}, "ratios"),
        ({}, "give ratio or threshold, or the ratios of layers"),
        ({"ratio": 0.5, "threshold": 0.1}, "give either ratio or threshold"),
        ({"threshold": -0.1}, "a threshold .* must be a number of at least 0.*got -0.1"),
        ({"threshold": {"channels": "much"}}, "the threshold of channels must be a number of at least 0, got 'much'"),
        ({"layers": {"0": 1.0}}, r"the ratio of '0' must be a number in \[0, 1\), got 1.0"),
        ({"layers": ["0"]}, "expected a mapping from patterns of layers to ratios"),
        ({"ratio": 0.5, "min_units": 0}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_configuration_is_the_users_mistake(config, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_plain([{"prune": config}])


@pytest.mark.parametrize(
    "config",
    [
        {"ratio": {"channels": 0.5, "hidden": 0.1}, "exclude": "head.*", "scope": "global", "criterion": "taylor"},
        {"threshold": {"channels": 0.5}, "layers": {"0": 0.25, "b.*": 0}, "min_units": 2},
        {"layers": {"0": 0.25}},
    ],
)
def test_configuration_survives_a_round_trip(config):
    recipe = Recipe.from_plain([{"prune": config}])
    assert Recipe.from_plain(recipe.to_plain()) == recipe


def test_scores_are_deterministic_and_leave_the_model_as_it_was():
    model = small().train()
    graph = trace(model, INPUTS)
    model[0].weight.requires_grad_(False)
    first, second = (score(model, graph, "taylor", batches(), loss) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert model.training
    assert not model[0].weight.requires_grad
    assert model[2].weight.grad is None


def test_taylor_sums_gradient_times_weight_over_a_unit():
    model = small().eval()
    graph = trace(model, INPUTS)
    (batch,) = batches(1)
    loss(model(**batch.inputs), batch).backward()
    product = {name: (p * p.grad).detach().abs() for name, p in model.named_parameters()}
    # Unit u of axis 5 owns row u of its layer's weight and column u of the next one's.
    expected = (product["5.weight"].sum(1) + product["7.weight"].sum(0)) / 2
    assert np.allclose(score(small(), graph, "taylor", [batch], loss)["5"], expected.numpy(), rtol=1e-4)


def test_scoring_without_what_it_needs(traced):
    model, graph, _ = traced
    with pytest.raises(UserError, match="accepted: l1, l2, bn_scale, taylor, activation, random"):
        score(model, graph, "l3")
    with pytest.raises(UserError, match="needs calibration data"):
        score(model, graph, "taylor")
    with pytest.raises(DivergedError, match="nan"):
        score(model, graph, "taylor", batches(1), lambda logits, _: logits.sum() * float("nan"))
