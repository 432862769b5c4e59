from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from evaluators.devices.fitting.features import milliseconds, rates_from, work
from evaluators.devices.fitting.forms import ACCELERATOR, PROCESSOR, Form
from evaluators.devices.fitting.layers import PRODUCTS, MeasuredKernel, read_layers


@pytest.mark.parametrize("form", [PROCESSOR, ACCELERATOR])
def test_the_roofline_gives_what_the_fit_sees(benchmark_files: Callable[..., object], form: Form) -> None:
    _, layers = benchmark_files()  # type: ignore[misc]
    costs = np.array(list(form.typical.values())) * np.random.default_rng(1).uniform(0.5, 2, len(form.features))
    rates = rates_from(costs, form)
    for kernels in read_layers(layers).values():
        assert milliseconds(kernels, rates, form) == pytest.approx(float(work(kernels, form) @ costs), rel=1e-9)


@pytest.mark.parametrize("form", [PROCESSOR, ACCELERATOR])
@pytest.mark.parametrize("op_class", PRODUCTS)
@pytest.mark.parametrize("integer", [False, True])
def test_every_product_has_a_rate_even_where_none_was_measured(op_class: str, integer: bool, form: Form) -> None:
    kernels = (MeasuredKernel(op_class, 1e8, 1e4, 1e5, 1e5, integer, 1e3, 1),)
    costs = np.array(list(form.typical.values()))
    assert milliseconds(kernels, rates_from(costs, form), form) == pytest.approx(float(work(kernels, form) @ costs), rel=1e-9)


def test_a_neural_processor_pays_for_images_of_three_channels() -> None:
    def cost(channels: int) -> float:
        kernel = MeasuredKernel("conv", 9 * channels * 64 * 112**2, 9 * channels * 64, channels * 224**2, 64 * 112**2, False, 0, 1)
        return float(work((kernel,), ACCELERATOR)[ACCELERATOR.features.index("macs.conv")]) / channels

    assert cost(3) > 5 * cost(8)


def test_an_edge_pays_for_whole_tiles() -> None:
    def cost(side: int) -> float:
        kernel = MeasuredKernel("conv3x3", 9 * 64 * 64 * side**2, 9 * 64 * 64, 64 * side**2, 64 * side**2, False, 0, 1)
        return float(work((kernel,))[PROCESSOR.features.index("macs.conv3x3")]) / side**2

    assert cost(13) > 1.2 * cost(16)
    assert cost(12) < cost(13)
