import pytest
import torch

from compressors.context import Context
from compressors.errors import CompressionError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.sparse_training import SparseTrain
from compressors.targets import target_named

INPUTS = {"x": torch.zeros(2, 2)}
PRUNE = {"prune": {"ratio": {"ffn": 0.5}, "criterion": "l2"}}


def context(data, model, **changes):
    return Context(data, model, trace(model, INPUTS), INPUTS, target_named("onnxruntime"), **changes)


def norms(model):
    """Of each hidden unit."""
    weights = torch.cat([model.hidden.weight, model.head.weight.T], dim=1).detach()
    return weights.norm(dim=1).sort().values


def small_share(model):
    values = norms(model)
    return float(values[: len(values) // 2].sum() / values.sum())


@pytest.mark.parametrize(("penalty", "strength"), [("group_lasso", 0.03), ("l1", 0.03)])
def test_half_of_the_units_become_small(points, point_net, penalty, strength):
    steps = {"epochs": 20, "learning_rate": 0.02}
    plain = SparseTrain(**steps, strength=0).apply(point_net(), None, context(points, point_net()))
    sparse = SparseTrain(**steps, strength=strength, penalty=penalty).apply(point_net(), None, context(points, point_net()))
    assert small_share(sparse) < 0.5 * small_share(plain)
    assert points.score(sparse, "search")[1] > 0.9
    assert set(sparse.state_dict()) == set(plain.state_dict())


def test_scales_of_batch_norms_become_small(points, point_net):
    sparse = SparseTrain(epochs=8, learning_rate=0.02, strength=0.05, penalty="bn_scale").apply(point_net(), None, context(points, point_net()))
    assert float(sparse.norm.weight.detach().abs().mean()) < 0.6


def test_what_is_cut_afterwards_costs_less(points, point_net):
    lost = []
    for strength in (0, 0.03):
        recipe = [{"sparse_train": {"epochs": 20, "learning_rate": 0.02, "strength": strength}}]
        whole, cut = (compress(point_net(), steps, INPUTS, points) for steps in (recipe, [*recipe, PRUNE]))
        lost.append(points.score(whole, "search")[1] - points.score(cut, "search")[1])
    assert lost[1] < 0.5 * lost[0]


class Plain(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden, self.head = torch.nn.Linear(2, 8), torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.hidden(x)))


def test_a_penalty_of_nothing_is_an_error(points):
    model = Plain().eval()
    with pytest.raises(CompressionError, match="no batch norm to make small"):
        SparseTrain(epochs=1, penalty="bn_scale").apply(model, None, context(points, model))


def test_strength_may_rise_and_must_not_be_negative():
    recipe = Recipe.from_plain([{"sparse_train": {"epochs": 1, "strength": {"start": 0, "end": 1e-3}}}])
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    assert recipe.steps[0].alpha == 0
    with pytest.raises(Exception, match="at least 0"):
        Recipe.from_plain([{"sparse_train": {"epochs": 1, "strength": -1}}])
