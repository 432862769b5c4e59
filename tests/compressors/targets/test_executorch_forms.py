from __future__ import annotations

import pytest

from compressors.targets.executorch_forms import forms

CASES = {
    "a convolution with static ranges": (("conv", 27, 4, 8, 32, False, False), (True, 8, 0, True, False)),
    "a convolution whose ranges would be taken at run time": (("conv", 27, 4, 8, 0, True, True), (False, 32, 0, False, False)),
    "groups at run time": (("linear", 128, 3, 8, 64, True, True), (True, 4, 64, True, False)),
    "groups that do not divide the inputs": (("linear", 100, 3, 8, 64, True, True), (True, 4, 0, True, False)),
    "groups of 8 bits": (("linear", 128, 8, 8, 64, True, True), (True, 8, 0, True, False)),
    "groups with static ranges": (("linear", 128, 2, 8, 64, False, False), (True, 4, 0, True, False)),
    "float activations": (("linear", 128, 2, 32, 0, True, False), (True, 4, 0, False, False)),
    "16-bit weights": (("linear", 128, 16, 32, 0, True, False), (False, 32, 0, False, False)),
    "a table": (("embedding", 128, 2, 32, 32, False, False), (True, 2, 32, False, True)),
    "a table of rows that fill no byte": (("embedding", 7, 2, 32, 0, True, False), (True, 8, 0, False, False)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_weight_has_a_form(name: str) -> None:
    asked, found = CASES[name]
    form = forms(*asked)
    assert (bool(form.integer), int(form.bits), int(form.groups), bool(form.integer_activations), bool(form.zero_points)) == found
