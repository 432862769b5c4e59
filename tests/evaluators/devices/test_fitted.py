from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from compressors.errors import UserError
from evaluators.devices.fitted import FittedRuntime, FittedSetting, fitted_runtime, write_fitted
from evaluators.devices.fitting.forms import ACCELERATOR, PROCESSOR, Form
from evaluators.devices.profile import load_profile, profile_path


def setting(**where: int) -> FittedSetting:
    return FittedSetting.of(np.array(list(PROCESSOR.typical.values())), **where)


def runtime(*settings: FittedSetting) -> FittedRuntime:
    return FittedRuntime(source="a test", rows=25, networks=25, error={"fp32": 0.1}, settings=settings)


@pytest.mark.parametrize("form", [PROCESSOR, ACCELERATOR])
def test_rates_and_costs_say_the_same(form: Form) -> None:
    costs = np.random.default_rng(0).uniform(0.01, 10, len(form.features))
    found = FittedSetting.of(costs, form, threads=1)
    assert found.form is form
    assert found.costs() == pytest.approx(costs, rel=6e-3)


def test_the_nearest_setting_has_the_threads_before_the_cores() -> None:
    found = runtime(setting(threads=1, cores=2), setting(threads=4, cores=1), setting(threads=4, cores=0), setting(threads=4, cores=0, run=1))
    assert found.nearest(4) == found.settings[2]
    assert found.nearest(8, cores=1) == found.settings[1]
    assert found.nearest(1) == found.settings[0]
    assert found.nearest(4, run=1) == found.settings[3]
    assert found.nearest(None).threads == 4


def test_the_block_is_replaced_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    path = Path(shutil.copy(profile_path("amlogic-s805"), tmp_path))
    head = "# by hand\n" + path.read_text(encoding="utf-8").partition("\nfitted:")[0] + "\n"
    path.write_text(head, encoding="utf-8")
    write_fitted(path, {"cpu/ncnn": runtime(setting(threads=1))})
    write_fitted(path, {"gpu/ncnn": runtime(setting(threads=1, gpu=0))})
    write_fitted(path, {"cpu/ncnn": runtime(setting(threads=4))})
    text = path.read_text(encoding="utf-8")
    assert text.startswith(head)
    profile = load_profile(str(path))
    assert sorted(profile.fitted) == ["cpu/ncnn", "gpu/ncnn"]
    found = fitted_runtime(profile, "cpu/ncnn")
    assert found is not None
    assert [s.threads for s in found.settings] == [4]
    assert fitted_runtime(profile, "npu/ncnn") is None


@pytest.mark.parametrize(("written", "field"), [(", inference_ms: 0.1", "inference_ms"), (", launch_int8_us: 3.0", "launch_int8_us")])
def test_a_neural_processor_needs_fixed_costs_of_its_own(tmp_path: Path, written: str, field: str) -> None:
    path = Path(shutil.copy(profile_path("amlogic-s805"), tmp_path))
    write_fitted(path, {"npu/litert": runtime(FittedSetting.of(np.array(list(ACCELERATOR.typical.values())), ACCELERATOR, threads=1))})
    text = path.read_text(encoding="utf-8")
    assert written in text
    path.write_text(text.replace(written, ""), encoding="utf-8")
    with pytest.raises(UserError, match=rf"fitted\.npu/litert: settings\.0: {field} is missing"):
        fitted_runtime(load_profile(str(path)), "npu/litert")


def _without(data: Any) -> None:
    del data["gmacs"]["conv"]


def _negative(data: Any) -> None:
    data["gb_s"]["weights"] = -1


def _misspelt(data: Any) -> None:
    data["gmacs_int8"]["depthwize"] = 1


def _no_launch(data: Any) -> None:
    del data["launch_us"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without, "settings.0: gmacs.conv is missing"),
        (_negative, "settings.0.gb_s.weights: Input should be greater than 0, got -1"),
        (_misspelt, "gmacs_int8.depthwize is unknown.*did you mean 'depthwise'"),
        (_no_launch, "settings.0.launch_us: Field required"),
    ],
)
def test_a_profile_with_a_wrong_rate_is_a_mistake(tmp_path: Path, spoil: Any, message: str) -> None:
    path = Path(shutil.copy(profile_path("amlogic-s805"), tmp_path))
    write_fitted(path, {"cpu/ncnn": runtime(setting(threads=1))})
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    spoil(data["fitted"]["cpu/ncnn"]["settings"][0])
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(UserError, match=f"fitted.cpu/ncnn: .*{message}"):
        fitted_runtime(load_profile(str(path)), "cpu/ncnn")
