"""Layers in two factors: how thin, which, and that nothing is lost where nothing should be."""

import numpy as np
import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.compressor import GraphEdit
from compressors.errors import CompressionError, DivergedError, UserError
from compressors.graph import trace
from compressors.low_rank import LowRank, factorise, singular_values
from compressors.pipeline import compress
from compressors.recipe import Recipe
from search.space import Space
from tests.conformance.families import build

POINTS = {"input": torch.randn(4, 20)}
IMAGES = {"input": torch.randn(2, 3, 8, 8)}


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 32), nn.GELU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 4))


def images():
    torch.manual_seed(0)
    first = nn.Conv2d(3, 12, 3)
    return nn.Sequential(
        first, nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 16, 1, stride=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.Flatten(), nn.Linear(256, 6)
    )


def ranks(model):
    return dict(model.compareto_structure["factors"])


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(12, 7),
        nn.Linear(7, 12, bias=False),
        nn.Conv2d(6, 10, 1, stride=2, padding=1),
        nn.Conv1d(6, 10, 1, bias=False),
        nn.Conv3d(4, 3, 1),
        nn.Linear(12, 7).half(),
    ],
    ids=repr,
)
def test_at_full_rank_a_layer_is_itself(layer):
    inputs = (2, layer.in_channels, *[5] * len(layer.kernel_size)) if hasattr(layer, "kernel_size") else (3, layer.in_features)
    x = torch.randn(inputs, dtype=layer.weight.dtype)
    both = factorise(layer, min(layer.weight.shape[:2]))
    assert torch.allclose(both(x), layer(x), atol=1e-5 if x.dtype == torch.float32 else 5e-3)
    assert both.weight.dtype == layer.weight.dtype
    assert both.bias is layer.bias


def test_the_factors_are_the_best_of_their_rank_and_balanced():
    layer = nn.Linear(30, 20)
    made = factorise(layer, 5)
    values = torch.linalg.svdvals(layer.weight.detach())
    error = made.second.weight @ made.first.weight - layer.weight
    assert torch.linalg.norm(error).item() == pytest.approx(values[5:].norm().item(), rel=1e-4)
    assert torch.allclose(made.first.weight.norm(dim=1), made.second.weight.norm(dim=0), rtol=1e-4)
    assert torch.allclose(made.first.weight.norm(dim=1), values[:5].sqrt(), rtol=1e-4)


@pytest.mark.parametrize("family", ["bert", "gpt2", "mobilenet"])
def test_weights_that_are_of_low_rank_lose_nothing(family):
    model, inputs = build(family)
    graph = trace(model, inputs, check_cuts=False)
    layers = {site.name: model.get_parameter(site.name) for site in graph.sites if site.factorable}
    with torch.no_grad():
        for weight in layers.values():
            thin = min(weight.shape[:2]) // 4
            weight.copy_((torch.randn(weight.shape[0], thin) @ torch.randn(thin, weight.shape[1])).view_as(weight) / (thin * weight.shape[1]) ** 0.5)
        smaller = compress(model, [{"low_rank": {"energy": 1.0}}], inputs)
        assert torch.allclose(smaller(**inputs).logits, model(**inputs).logits, atol=1e-4)
    assert len(ranks(smaller)) > 0.9 * len(layers)
    assert sum(p.numel() for p in smaller.parameters()) < 0.8 * graph.parameters


def test_the_rank_is_a_share_of_the_full_one_and_rounded_up_to_a_multiple():
    assert ranks(compress(mlp(), [{"low_rank": {"rank": 0.25}}], POINTS)) == {"0": 5, "2": 4, "4": 1}
    assert ranks(compress(mlp(), [{"low_rank": {"rank": 0.25, "round_to": 4}}], POINTS)) == {"0": 8, "2": 4}


def test_energy_is_kept_by_the_smallest_rank_that_does():
    model = mlp()
    made = ranks(compress(model, [{"low_rank": {"energy": 0.7}}], POINTS))
    for name in ("0", "2"):
        kept = torch.linalg.svdvals(model.get_submodule(name).weight.detach()).square().cumsum(0)
        assert kept[made[name] - 1] >= 0.7 * kept[-1] > kept[made[name] - 2]


def test_what_would_not_shrink_stays_whole():
    smaller = compress(mlp(), [{"low_rank": {"rank": 0.7}}], POINTS)
    # 14 * (20 + 32) >= 20 * 32, 11 * (16 + 32) >= 16 * 32, but 3 * (16 + 4) < 16 * 4.
    assert ranks(smaller) == {"4": 3}
    assert isinstance(smaller[0], nn.Linear)
    same = compress(mlp(), [{"low_rank": {"rank": 1.0}}], POINTS)
    assert ranks(same) == {}
    assert torch.equal(same(**POINTS), mlp()(**POINTS))


def test_only_convolutions_of_kernel_one_and_what_the_patterns_leave():
    assert set(ranks(compress(images(), [{"low_rank": {"rank": 0.3}}], IMAGES))) == {"3", "6"}
    assert set(ranks(compress(images(), [{"low_rank": {"rank": 0.3, "exclude": "3"}}], IMAGES))) == {"6"}


def test_the_rank_is_that_of_the_layer_as_it_was_cut():
    prune = {"prune": {"ratio": {"ffn": 0.5}}}
    assert ranks(compress(mlp(), [prune, {"low_rank": {"rank": 0.25}}], POINTS)) == {"0": 4, "2": 2, "4": 1}
    after = compress(mlp(), [{"low_rank": {"rank": 0.25}}, prune], POINTS)
    assert ranks(after) == {"0": 5, "2": 4, "4": 1}
    assert [after[0].first.weight.shape, after[0].second.weight.shape, after[2].first.weight.shape] == [(5, 20), (16, 5), (4, 16)]
    assert (after[0].second.out_features, after[2].first.in_features) == (16, 16)


def test_pruning_a_factorised_layer_removes_the_same_outputs(point_net):
    model, inputs = point_net(), {"x": torch.randn(5, 2)}
    both = compress(model, [{"low_rank": {"rank": 0.5, "include": "hidden"}}, {"prune": {"ratio": 0.5}}], inputs)
    whole = compress(model, [{"low_rank": {"rank": 0.5, "include": "hidden"}}], inputs)
    kept = both.compareto_structure["kept"]["hidden"]
    with torch.no_grad():
        assert torch.allclose(both.hidden(inputs["x"]), whole.hidden(inputs["x"])[:, kept], atol=1e-6)


def test_a_second_step_factorises_what_the_first_has_left():
    twice = compress(mlp(), [{"low_rank": {"rank": 0.25, "include": "0"}}, {"low_rank": {"rank": 0.5}}], POINTS)
    assert ranks(twice) == {"0": 5, "2": 8, "4": 2}


def test_tied_and_foreign_weights_are_left_alone():
    model, inputs = build("llama")
    smaller = compress(model, [{"low_rank": {"rank": 0.2}}], inputs)
    assert "lm_head" not in ranks(smaller)
    assert smaller.lm_head.weight is smaller.model.embed_tokens.weight

    class Borrowed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x):
            return self.c(nn.functional.linear(x, self.a.weight) + self.b(x)) + self.b.weight.sum()

    graph = trace(Borrowed(), {"x": torch.randn(2, 8)})
    assert [site.name for site in graph.sites if site.factorable] == ["c.weight"]


def test_training_and_loading_go_on(tmp_path, points, point_net):
    recipe = [{"low_rank": {"rank": 0.5, "include": "head"}}, {"distill": {"epochs": 8, "alpha": 0, "learning_rate": 0.02}}]
    trained = compress(point_net(), recipe, {"x": torch.zeros(2, 2)}, points)
    assert points.score(trained, "search")[1] > 0.7
    save(trained, tmp_path)
    x = torch.randn(3, 2)
    assert torch.equal(load(tmp_path, point_net())(x=x), trained(x=x))
    with pytest.raises(UserError, match="does not fit"):
        load(tmp_path, nn.Sequential(nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either rank or energy"),
        ({"rank": 0.5, "energy": 0.5}, "give either rank or energy"),
        ({"rank": 0}, "greater than 0, got 0"),
        ({"rank": 8}, "less than or equal to 1, got 8"),
        ({"energy": 1.5}, "less than or equal to 1, got 1.5"),
        ({"rank": 0.5, "round_to": 0}, "greater than or equal to 1, got 0"),
    ],
)
def test_a_mistake_is_one_clear_error(settings, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_plain([{"low_rank": settings}])


def test_what_cannot_be_done_says_why():
    with pytest.raises(CompressionError, match="no linear layer and no convolution of kernel 1"):
        compress(images(), [{"low_rank": {"rank": 0.3, "include": "0"}}], IMAGES)
    with pytest.raises(CompressionError, match="accepted: low_rank before sparsify"):
        compress(mlp(), [{"sparsify": {"ratio": 0.5}}, {"low_rank": {"rank": 0.3}}], POINTS)
    broken = mlp()
    with torch.no_grad():
        broken[2].weight[0, 0] = torch.nan
    for settings in ({"rank": 0.3}, {"energy": 0.5}):
        with pytest.raises(DivergedError, match="not finite"):
            compress(broken, [{"low_rank": settings}], POINTS)


def test_planning_reads_scores_and_no_weights():
    model = mlp()
    graph = trace(model, POINTS)
    scores = {"singular_values": singular_values(model, graph)}
    step = LowRank(energy=0.5)
    assert step.criteria() == ("singular_values",)
    assert LowRank(rank=0.5).criteria() == ()
    edit = step.plan(graph, scores, GraphEdit.identity(graph))
    assert edit.ranks == step.plan(graph, scores, GraphEdit.identity(graph)).ranks == ranks(compress(model, [{"low_rank": {"energy": 0.5}}], POINTS))


def test_a_search_varies_every_field():
    space = Space.from_plain(
        [{"one_of": [{"low_rank": {"rank": {"uniform": [0.2, 0.8]}, "round_to": {"choice": [1, 8]}}}, {"low_rank": {"energy": {"uniform": [0.5, 0.99]}}}]}]
    )
    rng = np.random.default_rng(0)
    found = [space.recipe(space.sample(rng)).steps[0] for _ in range(20)]
    assert {step.rank is None for step in found} == {True, False}
    assert {step.round_to for step in found} == {1, 8}
