from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.context import Batch
from compressors.errors import CompressionError, UserError
from compressors.pipeline import compress
from compressors.quantization import prepared_state
from compressors.targets import target_named
from compressors.training import TrainingSpec, train

INPUTS = {"x": torch.zeros(2, 2)}
QAT = {"epochs": 3, "learning_rate": 0.01, "temperature": 2.0}


@pytest.fixture
def fitted(point_net: Any, points: Any) -> Callable[..., nn.Module]:
    return lambda width=16: train(point_net(width), points, TrainingSpec(epochs=6, learning_rate=0.02), loss=points.loss, seed=0)


def distance(model: nn.Module, other: nn.Module, points: Any) -> float:
    """Between logits on unseen points."""
    x = torch.cat([batch.inputs["x"] for batch in points.batches("report")])
    with torch.no_grad():
        return float((model(x=x) - other(x=x)).norm() / other(x=x).norm())


@pytest.mark.parametrize("settings", [{"weight_bits": 2}, {"weight_bits": 2, "mode": "dynamic"}, {"weight_bits": 2, "activation_bits": "float"}])
def test_training_brings_a_quantized_model_nearer_to_the_uncompressed_one(fitted: Any, points: Any, settings: dict[str, Any]) -> None:
    model, log = fitted(), []
    rounded = compress(model, [{"quantize": settings}], INPUTS, points)
    trained = compress(model, [{"quantize": settings}, {"qat": {**QAT, "epochs": 6, "alpha": 1}}], INPUTS, points, log=log.append)
    assert distance(trained, model, points) < 0.75 * distance(rounded, model, points)
    lines = [line for line in log if line.startswith("qat: epoch ")]
    losses = [float(line.partition("loss ")[2].partition(",")[0]) for line in lines]
    assert len(losses) == 6
    assert losses[-1] < 0.5 * losses[0]
    assert "drop" in lines[0]


def test_the_model_that_was_given_stays_as_it_is(fitted: Any, points: Any) -> None:
    steps = [{"quantize": {"weight_bits": 4}}, {"qat": QAT}]
    model = fitted()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = (compress(model, steps, INPUTS, points) for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, prepared_state(second)[name]) for name, value in prepared_state(first).items()), "the seed decides"
    other = compress(model, steps, INPUTS, points, seed=1)
    assert not all(torch.equal(value, prepared_state(other)[name]) for name, value in prepared_state(first).items())
    assert first.compareto_structure == compress(model, steps[:1], INPUTS, points).compareto_structure


@pytest.mark.parametrize("settings", [{"weight_bits": 4}, {"weight_bits": 4, "mode": "dynamic"}, {"mode": "dynamic", "weight_bits": 4, "granularity": 32}])
def test_it_comes_back_bit_for_bit_and_runs_in_the_runtime(fitted: Any, points: Any, point_net: Any, tmp_path: Any, settings: dict[str, Any]) -> None:
    smaller = compress(fitted(32), [{"prune": {"ratio": 0.0}}, {"quantize": settings}, {"qat": QAT}], INPUTS, points)
    save(smaller, tmp_path / "saved")
    loaded = load(tmp_path / "saved", point_net(32))
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = smaller(x=x)
        assert torch.equal(loaded(x=x), expected)
    target = target_named("onnxruntime")
    session = target.load(target.export(smaller, INPUTS, tmp_path))
    found = torch.from_numpy(session({"x": x.numpy()})["logits"])
    # ONNX Runtime rounds the biases of integer kernels to 32 bits, which torch leaves in floats.
    assert float((found - expected).abs().max() / expected.abs().max()) < 5e-3


def test_scales_are_learned_and_zero_points_stay(fitted: Any, points: Any) -> None:
    model = fitted()
    rounded, trained = (prepared_state(compress(model, [{"quantize": {"weight_bits": 4}}, *more], INPUTS, points)) for more in ([], [{"qat": QAT}]))
    for name, value in trained.items():
        assert value.shape == rounded[name].shape
        if name.endswith(":zero_point"):
            assert torch.equal(value, rounded[name])
        elif name.endswith(":scale"):
            assert not torch.equal(value, rounded[name])
            assert (value > 0).all()


def test_patterns_say_which_weights_are_trained(fitted: Any, points: Any) -> None:
    model = fitted()
    steps = [{"quantize": {"weight_bits": 4}}, {"qat": {**QAT, "include": "head"}}]
    rounded, trained = prepared_state(compress(model, steps[:1], INPUTS, points)), prepared_state(compress(model, steps, INPUTS, points))
    assert sorted(name for name, value in trained.items() if not torch.equal(value, rounded[name])) == ["head.weight:scale", "model.head.weight"]


def test_a_second_training_goes_on_from_the_first(fitted: Any, points: Any) -> None:
    model = fitted()
    once, tiny = {**QAT, "alpha": 1}, {"steps": 1, "learning_rate": 1e-9, "alpha": 1}
    both = compress(model, [{"quantize": {"weight_bits": 2}}, {"qat": once}, {"qat": tiny}], INPUTS, points)
    assert distance(both, compress(model, [{"quantize": {"weight_bits": 2}}, {"qat": once}], INPUTS, points), points) < 1e-3


def test_without_integers_there_is_nothing_to_train(point_net: Any, points: Any) -> None:
    with pytest.raises(CompressionError, match="qat: no weight that it is to train is an integer"):
        compress(point_net(), [{"quantize": {"weight_bits": 16}}, {"qat": QAT}], INPUTS, points)
    with pytest.raises(CompressionError, match="qat: no weight that it is to train is an integer"):
        compress(point_net(), [{"quantize": {"include": "hidden"}}, {"qat": {**QAT, "include": "head"}}], INPUTS, points)
    with pytest.raises(UserError, match="qat: reads training data"):
        compress(point_net(), [{"quantize": {}}, {"qat": QAT}], INPUTS)


class Tied(nn.Module):
    """Rows of a table are looked up, and are the classes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(6, 32)
        self.mix = nn.Linear(32, 32)
        self.head = nn.Linear(32, 6, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(torch.relu(self.mix(self.table(x))).mean(1))
        return logits


class Tokens:
    """Three tokens, of which the first is the class."""

    higher_is_better = True

    def batches(self, split: str, *, seed: int | None = None, **_: Any) -> Any:
        generator = torch.Generator().manual_seed(seed or 0)
        for _ in range(4):
            x = torch.randint(0, 6, (16, 3), generator=generator)
            yield Batch({"x": x}, x[:, 0])

    def steps(self, split: str, **_: Any) -> int:
        return 4

    def loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        return nn.functional.cross_entropy(logits, batch.labels)

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        return "accuracy", 0.0


@pytest.mark.parametrize("other", [{}, {"overrides": {"mix": {"weight_bits": 16}}}])
def test_a_tied_weight_stays_one_and_16_bits_stay_16(other: dict[str, Any]) -> None:
    torch.manual_seed(0)
    settings = {"weight_bits": 4, "activation_bits": "float", **other}
    trained = compress(Tied().eval(), [{"quantize": settings}, {"qat": {**QAT, "alpha": 0}}], {"x": torch.zeros(2, 3, dtype=torch.long)}, Tokens())
    tables = [value for value in trained.state_dict().values() if value.dtype == torch.int8 and value.shape == (6, 32)]
    assert len({value.data_ptr() for value in tables}) == 1
    state = prepared_state(trained)
    (mix,) = (value for name, value in state.items() if name == "model.mix.weight")
    assert torch.equal(mix, mix.half().float()) is bool(other)


def test_zeros_of_a_sparse_model_stay_zeros(fitted: Any, points: Any) -> None:
    model = fitted()
    sparse = compress(model, [{"sparsify": {"ratio": 0.5}}], INPUTS, points)
    trained = prepared_state(compress(model, [{"sparsify": {"ratio": 0.5}}, {"quantize": {"weight_bits": 4}}, {"qat": QAT}], INPUTS, points))
    for name in ("hidden.weight", "head.weight"):
        zeros = sparse.state_dict()[name] == 0
        assert zeros.any()
        assert torch.equal(trained[f"model.{name}"] == 0, zeros)
