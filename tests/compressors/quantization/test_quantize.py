from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from compressors.checkpoint import load, save
from compressors.context import Batch
from compressors.errors import CompressionError, DivergedError, UserError
from compressors.graph import ModelGraph, trace
from compressors.pipeline import compress
from compressors.recipe import Recipe

INPUTS = {"x": torch.zeros(2, 2)}
DYNAMIC = {"quantize": {"mode": "dynamic"}}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(2, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.conv(x).mean(-1))
        return logits


@pytest.fixture(scope="module")
def graph() -> ModelGraph:
    return trace(Small().eval(), {"x": torch.zeros(2, 2, 5)})


def plan(graph: ModelGraph, *steps: dict[str, Any]) -> Any:
    return Recipe.from_plain([{"quantize": s} for s in steps]).plan(graph, {})[-1]


@pytest.mark.parametrize(
    ("settings", "weights", "activations", "dynamic"),
    [
        ({}, [8, 8], [8, 8], False),
        ({"mode": "dynamic"}, [8, 8], [32, 8], True),
        ({"mode": "dynamic", "weight_bits": 4}, [4, 4], [32, 8], True),
        ({"mode": "dynamic", "weight_bits": 16}, [16, 16], [32, 32], False),
        ({"mode": "dynamic", "activation_bits": 16}, [8, 8], [32, 32], False),
    ],
)
def test_the_plan_says_what_each_weight_and_activation_becomes(
    graph: ModelGraph, settings: dict[str, Any], weights: list[int], activations: list[int], dynamic: bool
) -> None:
    edit = plan(graph, settings)
    assert edit.weight_bits.tolist() == weights
    assert edit.activation_bits.tolist() == activations
    assert edit.dynamic is dynamic


def test_one_recipe_has_one_mode(graph: ModelGraph) -> None:
    with pytest.raises(CompressionError, match="one mode"):
        plan(graph, {"include": "conv"}, {"include": "head", "mode": "dynamic"})
    with pytest.raises(CompressionError, match="one mode"):
        plan(graph, {"include": "head", "mode": "dynamic"}, {"include": "conv"})
    assert not plan(graph, {"mode": "dynamic"}, {"mode": "static"}).dynamic, "the second step takes every layer over"
    assert plan(graph, {"include": "head", "mode": "dynamic"}, {"include": "conv", "activation_bits": "float"}).dynamic


class NoCalibration:
    """Training data whose calibration split is empty."""

    def batches(self, split: str, **_: Any) -> Any:
        return iter(())


def test_only_calibrated_ranges_need_calibration_data(point_net: Any) -> None:
    with pytest.raises(UserError, match="the calibration split is empty"):
        compress(point_net(), [{"quantize": {}}], INPUTS, NoCalibration())
    for settings in ({"mode": "dynamic"}, {"activation_bits": "float"}, {"weight_bits": 16}):
        smaller = compress(point_net(), [{"quantize": settings}], INPUTS, NoCalibration())
        assert torch.isfinite(smaller(x=torch.randn(3, 2))).all()


class Infinite:
    """Training data that the model answers with infinity."""

    def batches(self, split: str, **_: Any) -> Any:
        yield Batch({"x": torch.full((2, 2), float("inf"))}, torch.zeros(2, dtype=torch.long))


def test_calibration_that_is_not_finite_fails_the_trial(point_net: Any) -> None:
    with pytest.raises(DivergedError, match="calibration: the model's outputs are not finite"):
        compress(point_net(), [{"quantize": {}}], INPUTS, Infinite())


def test_ranges_follow_the_input_at_run_time(point_net: Any, points: Any) -> None:
    """Inputs a thousand times larger than those of calibration saturate calibrated ranges but not those taken at run time."""
    model = point_net()
    large = 1000 * next(points.batches("search")).inputs["x"]
    error = {}
    for mode in ("static", "dynamic"):
        smaller = compress(model, [{"quantize": {"mode": mode}}], INPUTS, points)
        with torch.no_grad():
            expected = model(x=large)
            error[mode] = float((smaller(x=large) - expected).norm() / expected.norm())
    assert error["dynamic"] < 0.05
    assert error["static"] > 0.5


@pytest.mark.parametrize("bits", [4, 8])
def test_a_dynamic_model_comes_back_bit_for_bit(tmp_path: Any, point_net: Any, bits: int) -> None:
    recipe = [{"prune": {"ratio": 0.5}}, {"quantize": {"mode": "dynamic", "weight_bits": bits}}]
    smaller = compress(point_net(), recipe, INPUTS)
    save(smaller, tmp_path)
    fresh = point_net()
    nn.init.ones_(fresh.head.weight)
    loaded = load(tmp_path, fresh)
    for batch in (1, 7):
        x = torch.randn(batch, 2)
        assert torch.equal(loaded(x=x), smaller(x=x))
    assert loaded.compareto_structure["quantize"]["dynamic"] is True


def test_a_second_step_adds_to_the_first(point_net: Any, points: Any, tmp_path: Any) -> None:
    steps = [{"quantize": {"weight_bits": 4, "activation_bits": "float", "include": "hidden"}}, {"quantize": {"mode": "dynamic", "include": "head"}}]
    both = compress(point_net(), steps, INPUTS, points)
    x = torch.randn(5, 2)
    only_first = compress(point_net(), steps[:1], INPUTS, points)
    only_second = compress(point_net(), steps[1:], INPUTS, points)
    assert not torch.equal(both(x=x), only_first(x=x))
    assert not torch.equal(both(x=x), only_second(x=x))
    save(both, tmp_path)
    assert torch.equal(load(tmp_path, point_net())(x=x), both(x=x))


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_data_of_another_size_than_the_workload_is_refused(mode: str) -> None:
    class Longer:
        def batches(self, split: str, **_: Any) -> Any:
            yield Batch({"x": torch.zeros(2, 2, 9)}, torch.zeros(2, dtype=torch.long))

    with pytest.raises(UserError, match=r"x is 2x2x9; the exported model takes batchx2x5"):
        compress(Small().eval(), [{"quantize": {"mode": mode}}], {"x": torch.zeros(2, 2, 5)}, Longer())(x=torch.zeros(2, 2, 9))


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_no_float_weight_stays_behind(point_net: Any, mode: str) -> None:
    smaller = compress(point_net(), [{"quantize": {"mode": mode}}], INPUTS)
    weights = [value for value in smaller.state_dict().values() if value.ndim == 2]
    assert [value.dtype for value in weights] == [torch.int8] * 2
    assert max(int(value.abs().max()) for value in weights) == 63
