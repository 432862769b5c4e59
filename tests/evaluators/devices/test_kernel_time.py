from __future__ import annotations

import numpy as np
import pytest

from evaluators.devices.kernel_time import Load, Product, kernel_times, odd, slowdown
from evaluators.devices.rates import Rate, Rates


def product(macs: float, weights: float, outputs: float) -> Product:
    cells = [np.array([[float(value)]]) for value in (macs, weights, outputs)]
    return Product.of("pointwise", np.array([0]), *cells, ((0, False),), np.array([[0]]))


def rates(**changes: object) -> Rates:
    plain = {"compute": {"fp32": {"pointwise": Rate(gmacs=2.0)}}, "bandwidth_gb_s": {"default": 1.0}, "weight_gb_s": 1.0, "cache_bytes": 0.0}
    fixed = {"launch_us": {"default": 10.0}, "overhead_ms": 0.0, "memory_bytes": 1.0, "fallback": {}, "idle_w": 0.0, "pj_per_mac": {}, "pj_per_byte": 0.0}
    return Rates.model_validate(plain | fixed | changes)


def load(macs: float = 4e6, moved: float = 1e6, weights: float = 0.0) -> Load:
    one = np.ones((1, 1))
    no = np.zeros((1, 1), dtype=np.bool_)
    return Load(
        ("pointwise",), (product(macs, 64 * 64, macs / 64),), no, no, moved * one, weights * one, 0 * one, one, np.ones(1, dtype=np.bool_), np.full(1, 0.5)
    )


def test_the_longer_of_arithmetic_and_traffic_counts_or_their_sum() -> None:
    # 4e6 multiply-accumulates at 2e9 a second take 2 ms, 4e6 bytes at 1e9 a second 4 ms, a launch 0.01 ms.
    assert kernel_times(load(), rates()).kernel[0, 0] == pytest.approx(4.01)
    assert kernel_times(load(), rates(hidden_traffic=False)).kernel[0, 0] == pytest.approx(6.01)


def test_half_of_the_speed_at_the_half_size() -> None:
    found = slowdown(product(64 * 64 * 100, 64 * 64, 64 * 100), {"half_depth": np.array(64.0)})
    assert found[0, 0] == pytest.approx(2)
    assert slowdown(product(64 * 64 * 100, 64 * 64, 64 * 100), {"half_rows": np.array(100.0)})[0, 0] == pytest.approx(2)


def test_tiles_waste_at_most_what_they_save() -> None:
    def waste(side: int) -> float:
        return float(slowdown(product(64 * 64 * side**2, 64 * 64, 64 * side**2), {"tile": np.array(4.0)})[0, 0])

    assert waste(8) == pytest.approx(1)
    assert waste(7) == pytest.approx((8 / 7) ** 2)
    assert waste(1) == 4


@pytest.mark.parametrize(
    ("op_class", "channels", "area", "expected"),
    [
        ("pointwise", 24, 1, False),
        ("pointwise", 25, 1, True),
        ("conv3x3", 45, 9, True),
        ("conv3x3", 48, 9, False),
        ("conv", 3, 49, False),
        ("conv", 21, 25, True),
    ],
)
def test_channels_are_odd_where_they_are_no_whole_blocks(op_class: str, channels: int, area: int, expected: bool) -> None:
    weights = 16.0 * channels * area
    cells = [np.array([[value]]) for value in (weights * 100, weights, 1600.0)]
    assert odd(Product.of(op_class, np.array([0]), *cells, ((0, False),), np.array([[0]])))[0, 0] == expected


def test_a_depthwise_convolution_is_odd_by_its_own_channels() -> None:
    for channels, expected in ((32, False), (33, True)):
        cells = [np.array([[value]]) for value in (channels * 900.0, channels * 9.0, channels * 100.0)]
        assert odd(Product.of("depthwise", np.array([0]), *cells, ((0, False),), np.array([[0]])))[0, 0] == expected


def test_odd_channels_take_their_own_rate_where_there_is_one() -> None:
    other = rates(compute={"fp32": {"pointwise": Rate(gmacs=2.0), "pointwise_odd": Rate(gmacs=0.5)}}, launch_us={"default": 10.0, "pointwise_odd": 30.0})
    whole = kernel_times(load(moved=0), other)
    assert (whole.compute[0, 0], whole.launch[0, 0]) == (pytest.approx(2), pytest.approx(0.01))
    no, one = np.zeros((1, 1), dtype=np.bool_), np.ones((1, 1))
    kernel = Load(("pointwise",), (product(4e6, 50 * 50, 4e6 / 50),), no, no, 0 * one, 0 * one, 0 * one, one, np.ones(1, dtype=np.bool_), np.full(1, 0.5))
    found = kernel_times(kernel, other)
    assert (found.compute[0, 0], found.launch[0, 0]) == (pytest.approx(8), pytest.approx(0.03))
    found = kernel_times(kernel, other.model_copy(update={"correction": {"pointwise_odd:fp32": 2.0, "pointwise:fp32": 5.0}}))
    assert found.compute[0, 0] == pytest.approx(16)


def test_convolutions_may_wait_for_weights_that_no_cache_holds() -> None:
    # 1e6 bytes at 1e9 a second take 1 ms; half of them are not cached, and arithmetic waits for all that is late.
    assert kernel_times(load(moved=0, weights=1e6), rates(late_weights={"convolution": 1.0})).kernel[0, 0] == pytest.approx(2.51)
    assert kernel_times(load(moved=0, weights=1e6), rates()).kernel[0, 0] == pytest.approx(2.01)
