from __future__ import annotations

from itertools import groupby

import torch

from evaluators.devices.calibration.networks import variants


def test_every_network_comes_as_floats_and_as_integers_and_takes_one_example() -> None:
    for name, forms in groupby(variants(), lambda variant: variant.network):
        floats, integers = forms
        assert (len(floats.steps), len(integers.steps)) == (0, 1), name
        with torch.no_grad():
            outputs = floats.module(**{key: value[:1] for key, value in floats.inputs.items()})
        assert outputs.shape[0] == 1
        assert outputs.isfinite().all()
        assert floats.module is integers.module


def test_the_weights_are_the_same_each_time() -> None:
    first, again = (next(variants()).module.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
