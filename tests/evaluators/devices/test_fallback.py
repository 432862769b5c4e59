from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evaluators.devices.fallback import converted_by_fallback
from evaluators.devices.rates import PRECISIONS

TABLE: Any = SimpleNamespace(precision=np.array([[PRECISIONS.index(p)] for p in PRECISIONS], dtype=np.int8), moved=np.array([[1.0], [2.0], [3.0], [4.0]]))


@pytest.mark.parametrize(
    ("fallback", "converted"),
    [
        ({"fp16": "fp32", "int4": "fp32"}, [0, 0, 0, 0]),
        ({"fp32": "fp16", "int4": "int8"}, [0, 0, 0, 4]),
        ({"int8": "fp16", "int4": "fp16"}, [0, 0, 3, 0]),
    ],
)
def test_what_crosses_between_floats_and_integers_is_converted(fallback: dict[str, str], converted: list[int]) -> None:
    rates: Any = SimpleNamespace(runs_as=lambda p: fallback.get(p, p))
    found = converted_by_fallback(np.full((4, 1), 0.5), TABLE, rates)
    assert (found[:, 0] - 0.5).tolist() == converted
