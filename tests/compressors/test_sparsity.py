"""Zeros where they were asked for, and no training that brings the weights back."""

import numpy as np
import pytest
import torch
from torch import nn

from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from search.space import Space
from tests.conformance.families import build

INPUTS = {"x": torch.zeros(2, 2)}


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 4))


IMAGES = {"input": torch.randn(2, 3, 4, 4)}


def shares(model):
    """Share of zeros in each weight."""
    return {name: float((p == 0).float().mean()) for name, p in model.named_parameters() if p.ndim > 1}


def test_the_smallest_weights_of_all_layers_go():
    dense = small()
    sparse = compress(dense, [{"sparsify": {"ratio": 0.6}}], IMAGES)
    pairs = [(a, b) for (name, a), b in zip(dense.named_parameters(), sparse.parameters(), strict=True) if name.endswith("weight")]
    gone, left = (torch.cat([a[(b == 0) == zero].abs() for a, b in pairs]) for zero in (True, False))
    assert len(gone) == round(0.6 * (len(gone) + len(left)))
    assert gone.max() <= left.min()
    assert all(torch.equal(a[b != 0], b[b != 0]) for a, b in pairs)
    assert not any((p == 0).any() for name, p in sparse.named_parameters() if name.endswith("bias"))


def test_local_scope_takes_the_ratio_of_every_layer():
    assert shares(compress(small(), [{"sparsify": {"ratio": 0.25, "scope": "local"}}], IMAGES)) == dict.fromkeys(shares(small()), 0.25)


def test_only_what_the_patterns_leave_is_touched():
    found = shares(compress(small(), [{"sparsify": {"ratio": 0.5, "include": ["5", "7"], "exclude": "7"}}], IMAGES))
    assert {name for name, share in found.items() if share} == {"5.weight"}


@pytest.mark.parametrize(("kept", "group"), [(2, 4), (1, 4), (4, 8)])
def test_of_every_group_of_inputs_the_largest_stay(kept, group):
    dense, lines = small(), []
    sparse = compress(dense, [{"sparsify": {"pattern": f"{kept}:{group}"}}], IMAGES, log=lines.append)
    for name in ("2", "5", "7"):
        a, b = (m.get_submodule(name).weight.detach().movedim(1, -1).reshape(-1, group) for m in (dense, sparse))
        assert ((b != 0).sum(1) == kept).all()
        assert torch.allclose(b.abs().sum(1), a.abs().topk(kept, dim=1).values.sum(1))
    assert shares(sparse)["0.weight"] == 0, "three colours are no group of four"
    assert "1 layers stay dense, such as 0.weight" in lines[0]


def test_gpt2_stores_inputs_first():
    model, inputs = build("gpt2")
    weight = compress(model, [{"sparsify": {"pattern": "2:4"}}], inputs).transformer.h[0].mlp.c_fc.weight
    assert ((weight.reshape(-1, 4, weight.shape[1]) != 0).sum(1) == 2).all()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_training_leaves_the_zeros_and_moves_the_rest(points, point_net, optimizer):
    sparse = compress(point_net(), [{"sparsify": {"ratio": 0.5}}], INPUTS)
    steps = [{"sparsify": {"ratio": 0.5}}, {"distill": {"epochs": 2, "optimizer": optimizer, "weight_decay": 0.1, "learning_rate": 0.02}}]
    trained = compress(point_net(), steps, INPUTS, points)
    for name in ("hidden.weight", "head.weight"):
        a, b = sparse.get_parameter(name), trained.get_parameter(name)
        assert torch.equal(a == 0, b == 0)
        assert not torch.equal(a, b)
    assert trained.head.weight._backward_hooks in (None, {}), "nothing is left on the weights"


def test_what_was_trained_sparse_stays_sparse_when_it_is_trained_again(points, point_net):
    distill = {"distill": {"epochs": 1}}
    trained = compress(point_net(), [{"sparsify": {"ratio": 0.3}}, distill, {"sparsify": {"ratio": 0.6}}, distill], INPUTS, points)
    assert np.mean(np.concatenate([p.detach().numpy().ravel() == 0 for p in (trained.hidden.weight, trained.head.weight)])) == pytest.approx(0.6, abs=0.01)


def test_the_log_and_the_structure_say_how_many(point_net):
    lines = []
    sparse = compress(point_net(), [{"sparsify": {"ratio": 0.5}}], INPUTS, log=lines.append)
    assert lines == ["sparsify: 50.00% of 96 weights in 2 layers are zero"]
    noted = sparse.compareto_structure["sparse"]
    assert {name: entry["pattern"] for name, entry in noted.items()} == {"hidden.weight": "unstructured", "head.weight": "unstructured"}
    assert sum(entry["zeros"] for entry in noted.values()) == 48


def test_it_is_priced_as_the_dense_model(point_net):
    graph = trace(point_net(), INPUTS)
    edit = Recipe.from_plain([{"sparsify": {"pattern": "2:4"}}]).plan(graph, {})[-1]
    shapes, baseline = edit.shapes(graph), graph.baseline()
    assert (shapes.widths == baseline.widths).all()
    assert graph.count_parameters(shapes)[0] == graph.parameters


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either ratio or pattern"),
        ({"ratio": 0.5, "pattern": "2:4"}, "give either ratio or pattern"),
        ({"ratio": 1.0}, "less than 1, got 1.0"),
        ({"pattern": "4:2"}, "0 < N < M"),
        ({"pattern": 124}, "YAML reads a bare 2:4 as the number 124, got 124"),
        ({"ratio": 0.5, "scope": "layer"}, "'global' or 'local'"),
    ],
)
def test_a_mistake_is_one_clear_error(settings, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_plain([{"sparsify": settings}])


def test_what_cannot_be_done_says_why(point_net):
    with pytest.raises(CompressionError, match="no linear layer and no convolution"):
        compress(point_net(), [{"sparsify": {"ratio": 0.5, "exclude": "h*"}}], INPUTS)
    with pytest.raises(CompressionError, match="no layer has inputs in a multiple of 32"):
        compress(point_net(), [{"sparsify": {"pattern": "2:32"}}], INPUTS)
    model = point_net()
    with torch.no_grad():
        model.hidden.weight.mul_(1e-3)
    with pytest.raises(CompressionError, match=r"hidden.weight would hold nothing but zeros; accepted: a lower ratio"):
        compress(model, [{"sparsify": {"ratio": 0.5}}], INPUTS)
    assert model.hidden.weight.all()


def test_a_search_varies_every_field():
    space = Space.from_plain([{"sparsify": {"ratio": {"uniform": [0.1, 0.9]}, "scope": {"choice": ["global", "local"]}}}])
    assert len(space.dimensions) == 2
    assert space.recipe(space.decode(np.array([0.0, 1.0]))).to_plain()[0]["sparsify"]["ratio"] == 0.1
    patterns = Space.from_plain([{"sparsify": {"pattern": {"choice": ["1:4", "2:4"]}}}])
    assert {patterns.recipe(patterns.decode(np.array([c]))).steps[0].pattern for c in (0.0, 1.0)} == {"1:4", "2:4"}
