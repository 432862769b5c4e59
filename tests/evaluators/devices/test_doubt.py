from __future__ import annotations

import numpy as np
import pytest

from evaluators.devices.doubt import Doubt
from evaluators.devices.fitting.forms import ACCELERATOR, PROCESSOR
from evaluators.devices.kernel_time import KernelTimes


def times(compute: list[float], memory: list[float]) -> KernelTimes:
    zero = np.zeros((2, 1))
    return KernelTimes(np.array(compute)[:, None], np.array(memory)[:, None], zero, zero, hidden=False)


def test_wider_where_the_time_goes_into_what_little_is_known_of() -> None:
    spread = np.diag([1.0 if name == "macs.grouped" else 0.01 for name in PROCESSOR.features])
    doubt = Doubt(spread, 0.1, 1.5, 2.5)
    classes, floats = ("conv", "grouped"), np.zeros((2, 1), dtype=np.bool_)
    usual, unusual = (doubt.width(classes, floats, times(part, [0, 0]))[0] for part in ([1.0, 0.0], [0.0, 1.0]))
    assert usual == pytest.approx(np.exp(1.5 * np.sqrt(0.02)))
    assert unusual == pytest.approx(np.exp(1.5 * np.sqrt(1.01)))


def test_integers_have_their_own_factor() -> None:
    doubt = Doubt(np.zeros((len(PROCESSOR.features), len(PROCESSOR.features))), 0.1, 1.5, 2.5)
    half = np.array([[True], [False]])
    assert doubt.width(("conv", "conv"), half, times([1.0, 1.0], [1.0, 0.0]))[0] == pytest.approx(np.exp(0.2))


def test_a_neural_processor_knows_launches_of_integers_and_inferences_apart() -> None:
    launches = KernelTimes(np.zeros((2, 1)), np.zeros((2, 1)), np.array([[1.0], [2.0]]), np.zeros((2, 1)), hidden=False)
    variances = {"launch": 1.0, "launch.int8": 4.0, "inference": 9.0}
    doubt = Doubt(np.diag([variances.get(name, 0.0) for name in ACCELERATOR.features]), 0.0, 1.0, 1.0, ACCELERATOR, 3.0)
    width = doubt.width(("elementwise", "elementwise"), np.array([[False], [True]]), launches)[0]
    assert width == pytest.approx(np.exp(np.sqrt((1 / 6) ** 2 + 4 * (2 / 6) ** 2 + 9 * (3 / 6) ** 2)))
