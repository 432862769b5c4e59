"""Learned rounding on fixed, correlated inputs."""

import pytest
import torch

from compressors.errors import DivergedError
from compressors.quantization.adaround import adaround
from compressors.quantization.grid import Grid
from compressors.quantization.quantizer import WeightQuantizer

torch.manual_seed(0)
INPUTS = torch.randn(1, 400, 4) @ torch.randn(1, 4, 32) + 0.3 * torch.randn(1, 400, 32)
WEIGHT = torch.randn(12, 32)


def grid_of(bits: int = 3, granularity: int = 0, symmetric: bool = True, weight=WEIGHT):
    quantizer = WeightQuantizer("w", bits, granularity, symmetric)
    quantizer(weight)
    return quantizer, Grid.of(quantizer, weight, (1, *weight.shape))


def error(rounded, weight=WEIGHT):
    return float((INPUTS @ (rounded - weight).transpose(1, 2)).square().mean())


@pytest.mark.parametrize(("granularity", "symmetric"), [(0, True), (32, False)])
def test_the_output_changes_less_than_by_nearest_rounding(granularity, symmetric):
    quantizer, grid = grid_of(granularity=granularity, symmetric=symmetric)
    found = adaround(WEIGHT[None], INPUTS, INPUTS @ WEIGHT.T, grid, steps=300)
    assert error(found) < 0.6 * error(grid.nearest(WEIGHT[None]))
    assert torch.equal(quantizer.integers(found[0]), quantizer.integers(quantizer.fake_quantize(found[0])))
    torch.testing.assert_close(quantizer.fake_quantize(found[0]), found[0], rtol=1e-5, atol=1e-6)
    moved = (found - grid.nearest(WEIGHT[None])).abs() / grid.scale
    assert moved.max() < 1.001, "up or down, nothing else"


def test_behind_a_relu_only_positive_outputs_count():
    _, grid = grid_of()
    bias = torch.full((1, 1, 12), -2.0)
    found = [adaround(WEIGHT[None], INPUTS, INPUTS @ WEIGHT.T, grid, bias=given, steps=300) for given in (bias, None)]
    seen = [float((torch.relu(INPUTS @ f.transpose(1, 2) + bias) - torch.relu(INPUTS @ WEIGHT.T + bias)).square().mean()) for f in found]
    assert seen[0] < seen[1]


def test_the_seed_decides():
    _, grid = grid_of()
    runs = [adaround(WEIGHT[None], INPUTS, INPUTS @ WEIGHT.T, grid, steps=60, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_zeros_stay_zeros_and_too_few_steps_lose_nothing():
    weight = WEIGHT.clone()
    weight[:, ::2] = 0
    _, grid = grid_of(weight=weight)
    found = adaround(weight[None], INPUTS, INPUTS @ weight.T, grid, steps=1)
    assert not found[:, :, ::2].any()
    assert error(found, weight) <= error(grid.nearest(weight[None]), weight)


def test_inputs_that_are_not_finite_are_an_error():
    _, grid = grid_of()
    with pytest.raises(DivergedError, match="not finite"):
        adaround(WEIGHT[None], INPUTS * float("inf"), INPUTS @ WEIGHT.T, grid)
