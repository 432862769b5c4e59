from __future__ import annotations

import numpy as np

from evaluators.devices.fitting.measurements import Setting
from evaluators.devices.fitting.processors import KINDS, kind_of, owners
from evaluators.devices.profile import load_profile


def setting(device: str, *, unit: str = "cpu", cores: int = 0) -> Setting:
    return Setting(device, unit, -1 if unit == "cpu" else 0, 1, cores, 0)


def test_a_listed_device_is_what_its_profile_says() -> None:
    device = load_profile("rk3588").names[0]
    assert owners()[device] == "rk3588"
    big, little = kind_of(setting(device)), kind_of(setting(device, cores=1))
    assert big.tolist() == [1, 1, 0, 0, 1]  # Cortex-A76: two 128-bit pipes
    assert little.tolist() == [1, 1, 0, 0, 0]  # Cortex-A55


def test_an_unlisted_device_is_what_its_name_says() -> None:
    assert kind_of(setting("Some board (Cortex-A76 2.0 GHz x 2 + Cortex-A55)")).tolist() == [1, 1, 0, 0, 1]
    assert kind_of(setting("Some board (Cortex-A710 2.0 GHz)")).tolist() == kind_of(setting("(Cortex-A710)")).tolist()
    assert kind_of(setting("A mystery")).tolist() == [0] * len(KINDS)


def test_processors_do_not_matter_to_an_accelerator() -> None:
    assert np.array_equal(kind_of(setting(load_profile("rk3588").names[0], unit="gpu")), np.zeros(len(KINDS)))
