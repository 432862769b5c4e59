from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evaluators.devices.fitting.features import milliseconds, rates_from, work
from evaluators.devices.fitting.forms import PROCESSOR
from evaluators.devices.fitting.layers import PRODUCTS, MeasuredKernel, read_layers


def test_the_roofline_gives_what_the_fit_sees(benchmark_files: Callable[..., object]) -> None:
    _, layers = benchmark_files()  # type: ignore[misc]
    costs = np.array(list(PROCESSOR.typical.values())) * np.random.default_rng(1).uniform(0.5, 2, len(PROCESSOR.features))
    rates = rates_from(costs)
    for kernels in read_layers(layers).values():
        assert milliseconds(kernels, rates) == pytest.approx(float(work(kernels) @ costs), rel=1e-9)


@pytest.mark.parametrize("op_class", PRODUCTS)
@pytest.mark.parametrize("integer", [False, True])
def test_every_product_has_a_rate_even_where_none_was_measured(op_class: str, integer: bool) -> None:
    kernels = (MeasuredKernel(op_class, 1e8, 1e4, 1e5, 1e5, integer, 0, 1),)
    costs = np.array(list(PROCESSOR.typical.values()))
    assert milliseconds(kernels, rates_from(costs)) == pytest.approx(float(work(kernels) @ costs), rel=1e-9)


def test_an_edge_pays_for_whole_tiles() -> None:
    def cost(side: int) -> float:
        kernel = MeasuredKernel("conv3x3", 9 * 64 * 64 * side**2, 9 * 64 * 64, 64 * side**2, 64 * side**2, False, 0, 1)
        return float(work((kernel,))[PROCESSOR.features.index("macs.conv3x3")]) / side**2

    assert cost(13) > 1.2 * cost(16)
    assert cost(12) < cost(13)
