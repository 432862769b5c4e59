import pytest
import torch
from torch import nn

from compressors.compressor import GraphEdit
from compressors.context import Batch, Context
from compressors.errors import CompressionError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.recipe import Recipe
from compressors.reconstruction import Reconstruct, _Layer, _matrix, _outputs, _rows, _set
from compressors.targets import target_named


class Images:
    """Random images with structure, so that channels are not independent of each other."""

    higher_is_better = True

    def __init__(self, examples=64):
        generator = torch.Generator().manual_seed(0)
        basis = torch.randn(6, 3 * 8 * 8, generator=generator)
        self.x = (torch.randn(examples, 6, generator=generator) @ basis).reshape(examples, 3, 8, 8)

    def batches(self, split, *, seed=None, batch_size=None):
        for piece in self.x.split(16):
            yield Batch({"x": piece}, torch.zeros(len(piece), dtype=torch.long))

    def steps(self, split, *, batch_size=None):
        return 4

    def loss(self, logits, batch):
        return logits.square().mean()

    def score(self, model, split):
        return "accuracy", 0.0


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 12, 3, stride=2, padding=1, bias=False)
        self.flat = nn.Linear(12, 20)
        self.head = nn.Linear(20, 4)

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.norm(self.first(x)))))
        return self.head(torch.relu(self.flat(x.mean((2, 3)))))


INPUTS = {"x": torch.zeros(1, 3, 8, 8)}
PRUNE = {"prune": {"ratio": {"channels": 0.5, "ffn": 0.5}}}


def error(model, original, data):
    with torch.no_grad():
        pairs = [(model(**b.inputs), original(**b.inputs)) for b in data.batches("calibration")]
    return float(sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs))


@pytest.fixture
def original():
    return Network().eval()


def context(original, data, **changes):
    return Context(
        **{"data": data, "teacher": original, "graph": trace(original, INPUTS), "example_inputs": INPUTS, "target": target_named("onnxruntime"), **changes}
    )


def test_outputs_of_a_cut_model_come_nearer_to_the_originals(original):
    data, lines = Images(), []
    cut = compress(original, [PRUNE], INPUTS)
    before = {name: value.clone() for name, value in cut.state_dict().items()}
    step = Reconstruct()
    fitted = step.apply(cut, None, context(original, data, log=lines.append))
    assert error(fitted, original, data) < 0.25 * error(cut, original, data)
    assert all(torch.equal(value, before[name]) for name, value in cut.state_dict().items()), "the model given is not changed"
    assert [parameter.shape for parameter in fitted.parameters()] == [parameter.shape for parameter in cut.parameters()]
    assert len(lines) == 4
    for line in lines:
        values = line.rpartition("squared error ")[2].split()
        assert float(values[2]) <= float(values[0])


def test_one_layer_with_all_its_inputs_is_solved_exactly(original):
    """Where only outputs were cut, the original's rows are the solution, and nothing moves."""
    graph = trace(original, INPUTS)
    cut = compress(original, [{"prune": {"layers": {"first": 0.5}}}], INPUTS)
    fitted = Reconstruct(include="first", ridge=1e-9).apply(cut, GraphEdit.identity(graph), context(original, Images()))
    torch.testing.assert_close(fitted.first.weight, cut.first.weight, rtol=1e-3, atol=1e-3)


def test_the_second_factor_of_a_factorised_layer_is_fitted(original):
    data = Images()
    low = compress(original, [{"low_rank": {"rank": 0.4, "include": ["flat"]}}], INPUTS)
    fitted = Reconstruct().apply(low, None, context(original, data))
    assert torch.equal(fitted.flat.first.weight, low.flat.first.weight)
    assert error(fitted, original, data) <= error(low, original, data)


def test_grouped_convolutions_are_fitted_group_by_group():
    torch.manual_seed(1)
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    x = torch.randn(2, 8, 5, 5)
    rows, matrix = _rows(layer, x), _matrix(layer)
    expected = _outputs(layer(x), _Layer("2", layer, torch.arange(8)))
    torch.testing.assert_close(rows @ matrix, expected)
    _set(layer, matrix * 2)
    torch.testing.assert_close(_outputs(layer(x), _Layer("2", layer, torch.arange(8))), expected * 2)


def test_an_uncut_model_stays_as_it_is(original):
    lines = []
    same = Reconstruct().apply(original, None, context(original, Images(), log=lines.append))
    assert all(torch.equal(value, original.state_dict()[name]) for name, value in same.state_dict().items())
    assert lines == ["reconstruct: no layer was cut, nothing to do"]


def test_it_is_a_step_of_recipes_that_needs_data(original):
    recipe = [PRUNE, {"reconstruct": {"samples": 32}}]
    assert Recipe.from_plain(Recipe.from_plain(recipe).to_plain()).steps[1] == Reconstruct(samples=32)
    with pytest.raises(CompressionError, match="reconstruct needs calibration data"):
        compress(original, recipe, INPUTS)
    data = Images()
    assert error(compress(original, recipe, INPUTS, data), original, data) < error(compress(original, [PRUNE], INPUTS), original, data)
