from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.devices.fitting.layers import read_layers
from evaluators.devices.fitting.measurements import read_measurements
from evaluators.devices.fitting.validate import validate


@pytest.fixture
def measured(benchmark_files: Callable[..., Any]) -> Any:
    def read(**options: Any) -> Any:
        measurements, layers = benchmark_files(**options)
        networks = read_layers(layers)
        return read_measurements(measurements, networks), networks

    return read


def test_networks_held_out_are_predicted_better_than_by_their_size(measured: Any) -> None:
    (result,) = validate(*measured())
    groups = result.groups()
    assert [(g["class"], g["threads"], g["precision"]) for g in groups] == [("cpu", t, p) for t in ("1", "2+") for p in ("fp32", "int8")]
    for group in groups:
        assert group["mape"] < 0.6 * group["baselines"]["macs"]["mape"]
        assert group["baselines"]["parameters"]["mape"] > group["mape"]
        assert 0 <= group["coverage_90"] <= 1
    assert np.isfinite(result.predicted).all()


def test_a_held_out_row_does_not_see_itself_nor_its_twin(measured: Any) -> None:
    found, networks = measured()
    (before,) = validate(found, networks)
    changed = found.ms.copy()
    columns = [i for i, name in enumerate(found.networks) if name.startswith("plain32")]
    assert len(columns) == 2
    changed[:, columns] *= 3
    (after,) = validate(type(found)(found.settings, found.networks, changed, 0), networks)
    assert np.array_equal(before.predicted[:, columns], after.predicted[:, columns])
    assert not np.array_equal(before.predicted, after.predicted)


def test_an_anchor_tells_the_speed_of_a_device_that_was_held_out(measured: Any) -> None:
    found, networks = measured()
    (unknown,), (anchored,) = validate(found, networks, "devices"), validate(found, networks, "devices", anchors=1)
    assert anchored.groups()[0]["mape"] < 0.5 * unknown.groups()[0]["mape"]
    assert sum(g["rows"] for g in unknown.groups()) - sum(g["rows"] for g in anchored.groups()) == len(found.settings)


def test_figures_are_numbers(measured: Any) -> None:
    (result,) = validate(*measured(devices=("pi",), threads=(1,)))
    for group in result.groups():
        for values in (group, *group["baselines"].values()):
            assert all(math.isfinite(value) for value in values.values() if isinstance(value, float))


def test_what_cannot_be_held_out_is_said(measured: Any) -> None:
    found, networks = measured(devices=("pi",))
    with pytest.raises(UserError, match="devices cannot be held out: there is only 'pi'"):
        validate(found, networks, "devices")
    with pytest.raises(UserError, match=r"'network' is not known.*did you mean 'networks'"):
        validate(found, networks, "network")


def test_a_device_that_stood_in_for_another_is_held_out_with_it(measured: Any) -> None:
    found, networks = measured()
    rows = [i for i, s in enumerate(found.settings) if s.device == "slow"]
    settings = (*found.settings, *(dataclasses.replace(found.settings[i], device="proxy") for i in rows))
    (result,) = validate(type(found)(settings, found.networks, np.concatenate([found.ms, found.ms[rows]]), 0), networks, "devices", 1)
    assert np.array_equal(result.predicted[rows], result.predicted[len(found.settings) :])
