"""GPTQ on fixed, correlated inputs: outputs change less than by rounding to nearest, and the weights lie on the grid."""

import pytest
import torch

from compressors.errors import DivergedError
from compressors.quantization.gptq import gptq, output_error
from compressors.quantization.grid import Grid
from compressors.quantization.quantizer import WeightQuantizer


def correlated(groups: int = 1, rows: int = 400, inputs: int = 64) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(groups, rows, 8) @ torch.randn(groups, 8, inputs) + 0.3 * torch.randn(groups, rows, inputs)


def layer(bits: int, granularity: int, symmetric: bool, shape=(24, 64)):
    torch.manual_seed(1)
    weight = torch.randn(shape)
    quantizer = WeightQuantizer("w", bits, granularity, symmetric)
    quantizer(weight)
    return weight, quantizer


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", [-1, 0, 32])
@pytest.mark.parametrize("bits", [2, 4])
def test_the_output_changes_less_than_by_nearest_rounding(bits, granularity, symmetric):
    weight, quantizer = layer(bits, granularity, symmetric)
    grid = Grid.of(quantizer, weight, (1, 24, 64))
    x = correlated()
    moments = x.transpose(1, 2) @ x
    found = gptq(weight[None], moments, grid)
    nearest = grid.nearest(weight[None])
    assert output_error(found - weight, moments) < 0.5 * output_error(nearest - weight, moments)
    assert output_error(found - weight, moments) == pytest.approx(float((x @ (found - weight).transpose(1, 2)).square().sum()), rel=1e-3)
    assert torch.equal(quantizer.integers(found[0]), quantizer.integers(quantizer.fake_quantize(found[0])))
    torch.testing.assert_close(quantizer.fake_quantize(found[0]), found[0], rtol=1e-5, atol=1e-6)


def test_groups_of_a_convolution_are_layers_of_their_own():
    x = correlated(groups=3, inputs=9)
    moments = x.transpose(1, 2) @ x
    weight, quantizer = layer(3, 0, True, (6, 1, 3, 3))
    grid = Grid.of(quantizer, weight, (3, 2, 9))
    together = gptq(weight.view(3, 2, 9), moments, grid)
    for g in range(3):
        alone = Grid(grid.scale[g : g + 1], grid.zero[g : g + 1], grid.lowest, grid.highest)
        torch.testing.assert_close(together[g], gptq(weight.view(3, 2, 9)[g : g + 1], moments[g : g + 1], alone)[0])


def test_inputs_that_are_always_zero_are_rounded_to_nearest():
    x = correlated()
    x[:, :, ::4] = 0
    weight, quantizer = layer(4, 0, True)
    grid = Grid.of(quantizer, weight, (1, 24, 64))
    found = gptq(weight[None], x.transpose(1, 2) @ x, grid)
    torch.testing.assert_close(found[:, :, ::4], grid.nearest(weight[None])[:, :, ::4])
    assert not torch.allclose(found, grid.nearest(weight[None]))


def test_fewer_rows_than_inputs_and_zeros_in_the_weight():
    x = correlated(rows=5)
    weight, quantizer = layer(4, 0, True)
    weight[:, ::2] = 0
    found = gptq(weight[None], x.transpose(1, 2) @ x, Grid.of(quantizer, weight, (1, 24, 64)))
    assert torch.isfinite(found).all()
    assert not found[:, :, ::2].any(), "sparse weights stay sparse"
    assert found[:, :, 1::2].any()


def test_inputs_that_are_not_finite_are_an_error():
    weight, quantizer = layer(4, 0, True)
    with pytest.raises(DivergedError, match="not finite"):
        gptq(weight[None], torch.full((1, 64, 64), float("nan")), Grid.of(quantizer, weight, (1, 24, 64)))
