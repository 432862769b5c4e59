from __future__ import annotations

import pytest
import torch

from compressors.quantization.quantizer import ActivationQuantizer, WeightQuantizer, effective_granularity

WEIGHT = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 1, 6)[:, None]


def relative_error(found: torch.Tensor) -> torch.Tensor:
    return (found - WEIGHT).norm(dim=1) / WEIGHT.norm(dim=1)


def frozen(bits: int, granularity: int = 0, *, symmetric: bool = True, method: str = "mse", top: int | None = None) -> WeightQuantizer:
    quantizer = WeightQuantizer("w", bits, granularity, symmetric, method, top)  # type: ignore[arg-type]
    assert torch.equal(quantizer(WEIGHT), WEIGHT), "it only looks"
    assert quantizer.frozen
    return quantizer


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", [-1, 0, 32])
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_integers_lie_in_their_range_and_dequantize_to_what_was_simulated(bits: int, granularity: int, symmetric: bool) -> None:
    quantizer = frozen(bits, granularity, symmetric=symmetric)
    integers = quantizer.integers(WEIGHT)
    assert integers.dtype == torch.int8
    assert integers.shape == WEIGHT.shape
    assert int(integers.min()) >= -(2 ** (bits - 1))
    assert int(integers.max()) <= 2 ** (bits - 1) - 1
    assert len(integers.unique()) <= 2**bits - symmetric
    shape = {-1: (1, -1), 0: (6, 64), 32: (12, 32)}[granularity]
    values = (integers.reshape(shape) - quantizer.zero_point.reshape(-1, 1)) * quantizer.scale.reshape(-1, 1)
    torch.testing.assert_close(values.reshape(6, 64), quantizer.fake_quantize(WEIGHT))
    assert torch.equal(quantizer.integers(quantizer.fake_quantize(WEIGHT)), integers), "what lies on the grid stays there"


def test_finer_scales_lose_less() -> None:
    tensor, channel, group = (relative_error(frozen(4, g).fake_quantize(WEIGHT)).mean() for g in (-1, 0, 32))
    assert tensor > channel > group


def test_the_least_squared_error_is_below_that_of_the_whole_range() -> None:
    for bits in (2, 3, 4):
        assert (relative_error(frozen(bits, method="mse").fake_quantize(WEIGHT)) <= relative_error(frozen(bits, method="min-max").fake_quantize(WEIGHT))).all()


def test_the_largest_integer_can_be_reduced() -> None:
    integers = frozen(8, method="min-max", top=63).integers(WEIGHT)
    assert int(integers.max()) <= 63
    assert int(integers.abs().max()) == 63


def test_groups_that_do_not_divide_the_inputs_are_channels() -> None:
    assert effective_granularity(32, (6, 64)) == 32
    assert effective_granularity(128, (6, 64)) == 0
    assert effective_granularity(32, (6, 64, 3, 3)) == 0
    assert effective_granularity(-1, (6, 64, 3, 3)) == -1


def test_a_row_of_zeros_is_no_division_by_zero() -> None:
    quantizer = WeightQuantizer("w", 8)
    weight = torch.zeros(2, 4)
    quantizer(weight)
    assert torch.equal(quantizer.fake_quantize(weight), weight)


def test_gradients_pass_straight_through_where_nothing_is_clipped() -> None:
    quantizer = frozen(4, method="min-max")
    quantizer.set_parameters(quantizer.scale * 1.001, quantizer.zero_point)
    weight = WEIGHT.clone().requires_grad_()
    quantizer.simulate = True
    quantizer(weight).sum().backward()
    torch.testing.assert_close(weight.grad, torch.ones_like(weight))
    quantizer.set_parameters(quantizer.scale / 4, quantizer.zero_point)
    weight.grad = None
    quantizer(weight).sum().backward()
    clipped = weight.detach().abs() > 7 * quantizer.scale[:, None]
    assert clipped.any()
    assert torch.equal(weight.grad == 0, clipped)


@pytest.mark.parametrize("observer", ["min-max", "percentile", "mse", "entropy"])
def test_activations_are_seen_then_frozen(observer: str) -> None:
    quantizer = ActivationQuantizer("x", observer, 0, 255, torch.uint8)  # type: ignore[arg-type]
    batches = torch.randn(4, 256, 64, generator=torch.Generator().manual_seed(1))
    for batch in batches:
        assert torch.equal(quantizer(batch), batch)
    assert not quantizer.frozen
    quantizer.freeze()
    error = (quantizer.fake_quantize(batches) - batches).square().mean().sqrt()
    assert float(error) < 0.02
    assert float(quantizer.fake_quantize(torch.zeros(1))) == 0.0, "zero is one of the integers"
    integers = quantizer.integers(batches)
    torch.testing.assert_close((integers.float() - quantizer.zero_point) * quantizer.scale, quantizer.fake_quantize(batches))


def test_observers_differ_in_what_they_make_of_an_outlier() -> None:
    ranges = {}
    for observer in ("min-max", "percentile", "mse", "entropy"):
        quantizer = ActivationQuantizer("x", observer, 0, 255, torch.uint8)  # type: ignore[arg-type]
        values = torch.randn(100_000, generator=torch.Generator().manual_seed(2))
        values[0] = 60.0
        quantizer(values)
        quantizer.freeze()
        ranges[observer] = float(quantizer.scale) * 255
    assert ranges["min-max"] > 60
    assert ranges["percentile"] < 12
    assert ranges["entropy"] < ranges["min-max"]
    assert ranges["mse"] < ranges["min-max"]


def test_a_tensor_that_was_never_computed_has_some_range() -> None:
    quantizer = ActivationQuantizer("x", "min-max", 0, 255, torch.uint8)
    quantizer.freeze()
    assert quantizer.frozen
