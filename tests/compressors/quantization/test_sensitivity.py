"""What the table of losses says of a network whose layers matter differently."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from compressors.context import Batch
from compressors.errors import DivergedError, UserError
from compressors.graph import trace
from compressors.pipeline import compress
from compressors.quantization.sensitivity import BITS, SensitivityTable, criterion_of, sensitivities
from compressors.targets import target_named

TARGET = target_named("onnxruntime")
INPUTS = {"x": torch.zeros(2, 64)}


class Branches(nn.Module):
    """The second branch is added a hundred times smaller."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small, self.head = nn.Linear(64, 16), nn.Linear(64, 16), nn.Linear(16, 5)

    def forward(self, x):
        return self.head(torch.relu(self.large(x) + 0.01 * self.small(x)))


class Noise:
    """Random inputs with random classes; remembers how many were read."""

    def __init__(self, examples=100, labels=None):
        generator = torch.Generator().manual_seed(1)
        self.x, self.read = torch.randn(examples, 64, generator=generator), 0
        self.labels = torch.randint(5, (examples,), generator=generator) if labels is None else labels

    def batches(self, split, *, seed=None, batch_size=None):
        assert (split, seed) == ("calibration", None)
        for x, labels in zip(self.x.split(batch_size or 64), self.labels.split(batch_size or 64), strict=True):
            self.read += len(x)
            yield Batch({"x": x}, labels)


class Empty:
    def batches(self, split, *, seed=None, batch_size=None):
        return iter(())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Branches().eval()


def measured(model, data, granularity=32, **options):
    criterion = criterion_of(granularity, **{"symmetric": True, "weight_range": "mse", **options})
    return SensitivityTable.from_scores(sensitivities(model, trace(model, INPUTS), criterion, data, TARGET))


def test_fewer_bits_lose_more_and_so_does_a_layer_that_matters_more(model):
    found = measured(model, Noise())
    assert (found.target, found.examples) == ("onnxruntime", 100)
    for name in ("large.weight", "small.weight"):
        two, three, four, eight = found.losses[name]
        assert two > four > 100 * eight > 0
        assert np.isnan(three), "ONNX stores 3 bits as 4"
    assert (found.losses["large.weight"] > 100 * found.losses["small.weight"])[[0, 2, 3]].all()
    assert np.isnan(found.losses["head.weight"][0]), "16 inputs are no groups of 32, and channels have 4 bits at least"
    assert found.losses["head.weight"][2] > 0


def test_the_loss_is_the_divergence_of_the_model_with_that_one_weight_quantized(model):
    data = Noise(32)
    step = {"weight_bits": 4, "activation_bits": "float", "granularity": 32, "include": "large"}
    quantized = compress(model, [{"quantize": step}], INPUTS, data)
    with torch.no_grad():
        expected, found = (m(x=data.x).double().log_softmax(-1) for m in (model, quantized))
    divergence = float((expected.exp() * (expected - found)).sum(-1).mean())
    assert measured(model, data).losses["large.weight"][BITS.index(4)] == pytest.approx(divergence, rel=1e-4)


def test_the_model_stays_as_it_is_and_the_table_is_the_same_again(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    first, second = measured(model, Noise()), measured(model, Noise())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for name, losses in first.losses.items():
        np.testing.assert_array_equal(losses, second.losses[name])


@pytest.mark.parametrize("options", [{"granularity": "tensor"}, {"symmetric": False}, {"weight_range": "min-max"}])
def test_each_way_to_quantize_has_its_own_table(model, options):
    plain, other = measured(model, Noise()), measured(model, Noise(), **options)
    assert other.losses["large.weight"][2] != plain.losses["large.weight"][2]


def test_the_more_a_model_costs_the_fewer_examples_are_read(model):
    graph, data = trace(model, INPUTS), Noise(400)
    criterion = criterion_of("channel", symmetric=True, weight_range="mse")
    assert SensitivityTable.from_scores(sensitivities(model, graph, criterion, data, TARGET)).examples == data.read == 256
    data.read = 0
    costly = replace(graph, operators=tuple(replace(o, macs=o.macs * 10**8) for o in graph.operators))
    assert SensitivityTable.from_scores(sensitivities(model, costly, criterion, data, TARGET)).examples == data.read == 16


def test_outputs_that_are_no_classes_are_compared_by_their_variance(model):
    data = Noise(64, labels=torch.randn(64, 5))
    found = measured(model, data).losses["large.weight"][BITS.index(4)]
    step = {"weight_bits": 4, "activation_bits": "float", "granularity": 32, "include": "large"}
    with torch.no_grad():
        expected, changed = (m(x=data.x).double() for m in (model, compress(model, [{"quantize": step}], INPUTS)))
    variance = sum(float((e - e.mean()).square().sum()) for e in expected.split(16))
    assert found == pytest.approx(float((expected - changed).square().sum()) / variance, rel=1e-4)


def test_what_cannot_be_measured_says_why(model):
    with pytest.raises(UserError, match="pass data="):
        measured(model, None)
    with pytest.raises(UserError, match="the calibration split is empty"):
        measured(model, Empty())
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(DivergedError, match="outputs on calibration data are not finite"):
        measured(model, Noise())
