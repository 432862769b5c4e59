"""Layers with one set of weights: which, whose, and that they stay one."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.errors import CompressionError, UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from search.space import Space

INPUTS = {"x": torch.randn(4, 2)}


class Block(nn.Module):
    def __init__(self, width=8, inner=12):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, inner)
        self.down = nn.Linear(inner, width)

    def forward(self, x):
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Net(nn.Module):
    def __init__(self, inner=(12, 12, 12, 12, 12)):
        super().__init__()
        self.stem = nn.Linear(2, 8)
        self.blocks = nn.ModuleList(Block(inner=i) for i in inner)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def net(**changes):
    torch.manual_seed(0)
    return Net(**changes).eval()


def groups(model):
    """Names of parameters by the tensor that they are, those of one name aside."""
    named = sorted(((id(p), name) for name, p in model.named_parameters(remove_duplicate=False)))
    found = [[name for _, name in entries] for _, entries in itertools.groupby(named, key=lambda entry: entry[0])]
    return sorted(names for names in found if len(names) > 1)


def blocks_that_share(model):
    return sorted({tuple(int(name.split(".")[1]) for name in names) for names in groups(model)})


def share(**settings):
    return {"share_weights": settings}


def test_every_so_many_blocks_in_a_row_share_all_their_weights():
    model = net()
    smaller = compress(model, [share(every=2)], INPUTS)
    assert blocks_that_share(smaller) == [(0, 1), (2, 3)]
    assert len(groups(smaller)) == 2 * 6
    assert torch.equal(smaller.blocks[3].up.weight, model.blocks[2].up.weight)
    assert torch.equal(smaller.blocks[4].up.weight, model.blocks[4].up.weight)
    assert blocks_that_share(compress(net(), [share(every=3)], INPUTS)) == [(0, 1, 2), (3, 4)]
    assert not groups(model)


def test_the_mean_of_all_is_what_they_share():
    model = net()
    smaller = compress(model, [share(every=5, init="mean")], INPUTS)
    for name, parameter in smaller.blocks[0].named_parameters():
        assert torch.allclose(parameter, torch.stack([block.get_parameter(name) for block in model.blocks]).mean(0), atol=1e-6)


def test_groups_of_patterns_name_modules_and_the_outermost_count():
    smaller = compress(net(), [share(groups=["blocks.[01].up", ["blocks.3", "blocks.4"]])], INPUTS)
    assert [names for names in groups(smaller) if names[0].startswith("blocks.0")] == [
        ["blocks.0.up.bias", "blocks.1.up.bias"],
        ["blocks.0.up.weight", "blocks.1.up.weight"],
    ]
    assert len([names for names in groups(smaller) if names[0].startswith("blocks.3")]) == 6
    assert blocks_that_share(compress(net(), [share(groups=["blocks.*"])], INPUTS)) == [(0, 1, 2, 3, 4)]


def test_include_and_exclude_choose_the_parts_that_are_shared():
    kept = compress(net(), [share(every=2, exclude="*.norm")], INPUTS)
    assert {name.split(".")[2] for names in groups(kept) for name in names} == {"up", "down"}
    only = compress(net(), [share(every=5, include="blocks.[0-3]", exclude=["blocks.2", "*.down"])], INPUTS)
    assert blocks_that_share(only) == [(0, 1, 3)]
    assert {name.split(".")[2] for names in groups(only) for name in names} == {"norm", "up"}


def test_it_counts_over_the_blocks_that_are_there():
    smaller = compress(net(), [{"prune": {"ratio": {"blocks": 0.2}}}, share(every=2)], INPUTS)
    left = smaller.compareto_structure["kept"]["blocks"]
    assert blocks_that_share(smaller) == [tuple(left[:2]), tuple(left[2:])]


def test_a_model_that_shares_equals_one_whose_weights_were_copied():
    smaller, copied = compress(net(), [share(every=2)], INPUTS), net()
    for a, b in ((0, 1), (2, 3)):
        copied.blocks[b].load_state_dict(copied.blocks[a].state_dict())
    with torch.no_grad():
        assert torch.equal(smaller(**INPUTS), copied(**INPUTS))


def test_training_moves_all_of_them_and_they_stay_one(points, tmp_path):
    trained = compress(net(), [share(every=2), {"distill": {"epochs": 4, "alpha": 0, "learning_rate": 0.01}}], INPUTS, points)
    assert blocks_that_share(trained) == [(0, 1), (2, 3)]
    assert not torch.equal(trained.blocks[0].up.weight, net().blocks[0].up.weight)
    assert points.score(trained, "search")[1] > 0.8
    save(trained, tmp_path)
    loaded = load(tmp_path, net())
    assert groups(loaded) == groups(trained)
    assert torch.equal(loaded(**INPUTS), trained(**INPUTS))


def test_running_statistics_stay_each_layers_own():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)) for _ in range(2))

        def forward(self, x):
            return self.b(self.a(x))

    model = Two()
    with torch.no_grad():
        model.b[1].running_mean += 1
    smaller = compress(model, [share(groups=[["a", "b"]])], {"x": torch.randn(2, 4, 5, 5)})
    assert smaller.a[1].weight is smaller.b[1].weight
    assert smaller.b[1].running_mean.mean() == 1
    assert smaller.a[1].running_mean.mean() == 0


def test_cuts_before_and_after():
    ffn = {"prune": {"ratio": {"ffn": 0.5}}}
    assert blocks_that_share(compress(net(), [ffn, share(every=2)], INPUTS)) == [(0, 1), (2, 3)]
    after = compress(net(), [share(every=2), {"prune": {"ratio": {"hidden": 0.5}}}], INPUTS)
    assert blocks_that_share(after) == [(0, 1), (2, 3)]
    assert after.blocks[3].up.weight.shape == (12, 4)
    with pytest.raises(CompressionError, match=r"prune: blocks.0.up and blocks.1.up share their weights and would be cut differently; .* before share_weights"):
        compress(net(), [share(every=2), ffn], INPUTS)


def test_dropping_the_first_of_them_leaves_the_weights_to_the_next():
    recipe = Recipe.from_plain([share(every=5), {"prune": {"ratio": {"blocks": 0.4}}}])
    smaller = compress(net(), recipe, INPUTS)
    left = smaller.compareto_structure["kept"]["blocks"]
    assert blocks_that_share(smaller) == [tuple(left)]
    assert sum(p.numel() for p in smaller.parameters()) == 2 * 8 + 8 + 8 * 4 + 4 + sum(p.numel() for p in net().blocks[0].parameters())


def test_factors_are_shared_too():
    for steps in ([share(every=2), {"low_rank": {"energy": 0.5}}], [{"low_rank": {"rank": 0.25}}, share(every=2)]):
        smaller = compress(net(), steps, INPUTS)
        assert blocks_that_share(smaller) == [(0, 1), (2, 3)]
        assert smaller.blocks[0].up.first.weight is smaller.blocks[1].up.first.weight
    with pytest.raises(CompressionError, match=r"low_rank: blocks.0.up and blocks.1.up share their weights and would be factorised differently"):
        compress(net(), [share(every=2), {"low_rank": {"rank": 0.25, "include": "blocks.0.*"}}], INPUTS)


def test_one_weight_has_one_width():
    with pytest.raises(CompressionError, match=r"quantize: blocks.0.up and blocks.1.up .* would be stored in different bits"):
        compress(net(), [share(every=2), {"quantize": {"weight_bits": 16, "include": "blocks.0.*"}}], INPUTS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give either every or groups"),
        ({"every": 2, "groups": ["a"]}, "give either every or groups"),
        ({"every": 1}, "greater than or equal to 2, got 1"),
        ({"groups": []}, "at least 1 item"),
        ({"groups": [[]]}, "at least 1 item"),
        ({"every": 2, "init": "last"}, "'first' or 'mean'"),
    ],
)
def test_a_mistake_is_one_clear_error(settings, message):
    with pytest.raises(UserError, match=message):
        Recipe.from_plain([share(**settings)])


def test_what_cannot_be_shared_says_why():
    with pytest.raises(UserError, match=r"groups: 'block.0' matches no module whose weights can be shared; did you mean 'blocks.0'"):
        compress(net(), [share(groups=[["block.0", "blocks.1"]])], INPUTS)
    with pytest.raises(CompressionError, match=r"groups\[0\]: \['blocks.0'\] match \['blocks.0'\]; accepted: at least two modules"):
        compress(net(), [share(groups=["blocks.0"])], INPUTS)
    with pytest.raises(CompressionError, match=r"blocks.0 and blocks.1.up differ"):
        compress(net(), [share(groups=[["blocks.0", "blocks.1.up"]])], INPUTS)
    cut = {"prune": {"ratio": {"ffn": 0.5}, "include": "blocks.0.*"}}
    with pytest.raises(CompressionError, match=r"blocks.0 and blocks.1 differ \(up.weight is 6x8 in one and 12x8 in the other"):
        compress(net(), [cut, share(groups=[["blocks.0", "blocks.1"]])], INPUTS)
    with pytest.raises(CompressionError, match="leave no two modules of the same shapes"):
        compress(net(inner=(12, 8)), [share(every=2, include="*.up")], INPUTS)
    with pytest.raises(CompressionError, match=r"blocks.0.norm is in two groups"):
        compress(net(), [share(every=2), share(every=3)], INPUTS)
    with pytest.raises(CompressionError, match="accepted: share_weights before sparsify"):
        compress(net(), [{"sparsify": {"ratio": 0.5}}, share(every=2)], INPUTS)


def test_a_pattern_of_zeros_is_not_cut_through():
    with pytest.raises(CompressionError, match=r"prune: a cut of blocks.0.up.weight would break its pattern 2:4; accepted: prune before sparsify"):
        compress(net(), [{"sparsify": {"pattern": "2:4"}}, {"prune": {"ratio": {"ffn": 0.5}}}], INPUTS)
    compress(net(), [{"sparsify": {"ratio": 0.5}}, {"prune": {"ratio": {"ffn": 0.5}}}], INPUTS)


def test_parameters_count_once_and_work_does_not():
    model = net()
    graph = trace(model, INPUTS)
    shapes = Recipe.from_plain([share(every=2)]).plan(graph, {})[-1].shapes(graph)
    once = sum(p.numel() for p in model.blocks[0].parameters())
    assert graph.count_parameters(shapes)[0] == graph.parameters - 2 * once
    assert graph.count_macs(shapes)[0] == graph.macs


def test_a_search_varies_every_field():
    space = Space.from_plain([share(every={"choice": [2, 3]}, init={"choice": ["first", "mean"]})])
    assert space.size == 4
    named = Space.from_plain([share(groups={"choice": [[["a", "b"]], [["c", "d"]]]})])
    assert named.recipe(named.decode(np.array([1.0]))).steps[0].groups == (("c", "d"),)
