"""Facts about the criteria that a user of one would notice; what holds for all of them stands first."""

import numpy as np
import pytest
import torch
from torch import nn

from compressors.context import Batch
from compressors.errors import DivergedError, UserError
from compressors.graph import trace
from compressors.pruning import CRITERIA, score
from tests.conformance.families import build

INPUTS = {"input": torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))}
BATCHES = [Batch({"input": torch.randn(8, 3, 6, 6, generator=torch.Generator().manual_seed(i))}, torch.zeros(8, dtype=torch.long)) for i in (1, 2)]


def loss(logits, batch):
    return nn.functional.cross_entropy(logits, batch.labels)


def small(*, scale=True):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8, affine=scale),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Flatten(),
        nn.Linear(8 * 36, 12),
        nn.ReLU(),
        nn.Linear(12, 3),
    ).eval()


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("family", ["plain_cnn", "distilbert", "gpt2", "basic_resnet", "lstm"])
def test_every_unit_of_every_prunable_axis_has_a_score(family, criterion):
    model, inputs = build(family)
    graph = trace(model, inputs, check_cuts=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = score(model, graph, criterion, [Batch(inputs, torch.zeros(2, dtype=torch.long))], lambda logits, _: logits.float().square().mean())
    assert {name: len(values) for name, values in found.items()} == {axis.name: axis.size for axis in graph.prunable}
    assert all(np.isfinite(values).all() and (values >= 0).all() and len(np.unique(values)) > 1 for values in found.values())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_bn_scale_is_the_size_of_gamma():
    model = small()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.3, -2.0, 0.0, 1.0, 0.5, -0.1, 4.0, 0.2]))
    found = score(model, trace(model, INPUTS), "bn_scale")
    assert np.allclose(found["0"], [0.3, 2.0, 0.0, 1.0, 0.5, 0.1, 4.0, 0.2])


@pytest.mark.parametrize("scale", [True, False])
def test_axes_without_the_scale_of_a_batch_norm_are_ranked_by_l2(scale):
    model = small(scale=scale)
    graph = trace(model, INPUTS)
    found, magnitudes = score(model, graph, "bn_scale"), score(model, graph, "l2")
    assert {name for name in found if not np.array_equal(found[name], magnitudes[name])} == ({"0"} if scale else set())


def test_bn_scale_of_a_block_is_the_sum_over_its_norms():
    model, inputs = build("basic_resnet")
    graph = trace(model, inputs, check_cuts=False)
    stack = next(axis for axis in graph.prunable if axis.kind == "blocks")
    gammas = [sum(float(m.weight.detach().abs().sum()) for m in model.get_submodule(path).modules() if isinstance(m, nn.BatchNorm2d)) for path in stack.modules]
    assert np.allclose(score(model, graph, "bn_scale")[stack.name], gammas)


def test_activation_is_weight_times_the_root_mean_square_of_its_input():
    model = small()
    graph = trace(model, INPUTS)
    x = torch.cat([batch.inputs["input"] for batch in BATCHES])
    with torch.no_grad():
        first, last = model[:4](x).flatten(1), model[:7](x)
    sizes = [value.double().square().mean(0).sqrt() for value in (first, last)]
    # Unit u of axis 5 owns row u of its layer's weight and column u of the next one's.
    expected = ((model[5].weight.abs() * sizes[0]).sum(1) + (model[7].weight.abs() * sizes[1]).sum(0)) / 2
    assert np.allclose(score(model, graph, "activation", BATCHES)["5"], expected.detach(), rtol=1e-6)


def test_activation_of_a_grouped_convolution_takes_each_groups_own_inputs():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6 * 16, 3)).eval()
    x = BATCHES[0].inputs["input"]
    with torch.no_grad():
        inner, last = model[0](x).double(), model[:3](x).double()
        sizes = x.double().square().mean((0, 2, 3)).sqrt(), inner.square().mean((0, 2, 3)).sqrt(), last.square().mean(0).sqrt()
        first = (model[0].weight.abs() * sizes[0][:, None, None]).view(2, -1).sum(1)
        second = (model[1].weight.abs().view(2, 3, 2, 9) * sizes[1].view(2, 1, 2, 1)).sum((1, 2, 3))
        third = (model[3].weight.abs() * sizes[2]).view(3, 2, -1).sum((0, 2))
    # The units of the axis are the two groups.
    assert np.allclose(score(model, trace(model, INPUTS), "activation", BATCHES[:1])["0"], (first + second + third) / 3, rtol=1e-6)


def test_a_unit_that_nothing_activates_goes_first():
    model = small()
    with torch.no_grad():
        model[5].bias[4] = -100.0
        model[5].weight[4] = 0.01
    graph = trace(model, INPUTS)
    assert score(model, graph, "activation", BATCHES)["5"].argmin() == 4


def test_rows_of_an_embedding_count_as_often_as_they_are_read():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 2))
    inputs = {"input": torch.tensor([[0, 1, 1], [1, 1, 3]])}
    graph = trace(model, inputs)
    with torch.no_grad():
        read = (model[0].weight.abs() * torch.tensor([1 / 6, 4 / 6, 0, 1 / 6, 0]).sqrt()[:, None]).sum(0)
        after = (model[2].weight.abs() * model[:2](inputs["input"]).square().mean(0).sqrt()).view(2, 3, 4).sum((0, 1))
    (values,) = score(model, graph, "activation", [Batch(inputs, torch.zeros(2))]).values()
    assert np.allclose(values, (read + after) / 2, rtol=1e-5)


def test_random_is_the_same_in_every_run_and_another_for_each_axis():
    model = small()
    graph = trace(model, INPUTS)
    first, second = score(model, graph, "random"), score(nn.Sequential(*model), graph, "random")
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert not np.allclose(first["0"], first["5"][:8])


def test_inputs_that_are_not_finite_are_said():
    model = small()
    graph = trace(model, INPUTS)
    broken = [Batch({"input": torch.full((1, 3, 6, 6), float("nan"))}, torch.zeros(1))]
    with pytest.raises(DivergedError, match="the input of 0 is not finite"):
        score(model, graph, "activation", broken)


@pytest.mark.parametrize(("criterion", "given", "said"), [("activation", [], "'activation' needs calibration data;"), ("taylor", BATCHES, "data and a loss;")])
def test_what_a_criterion_misses_is_said_with_those_that_need_nothing(criterion, given, said):
    model = small()
    with pytest.raises(UserError, match=f"{said} criteria without: l1, l2, bn_scale, random"):
        score(model, trace(model, INPUTS), criterion, given)
