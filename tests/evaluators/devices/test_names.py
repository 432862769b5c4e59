from __future__ import annotations

import subprocess
import sys

import pytest

from compressors.errors import UserError
from evaluators.devices import device_keys, device_names, resolve_device


@pytest.mark.parametrize(
    ("text", "target", "key"),
    [
        ("raspberry-pi-5/onnxruntime", None, "raspberry-pi-5/onnxruntime"),
        ("raspberry-pi-5.cpu/onnxruntime", None, "raspberry-pi-5/onnxruntime"),
        ("raspberry-pi-5", "litert", "raspberry-pi-5/litert"),
        ("galaxy-s24.npu", "litert", "galaxy-s24.npu/litert"),
        ("galaxy-s24/qnn_dlc", None, "galaxy-s24/qnn_dlc"),
        ("galaxy-s24.gpu", "onnxruntime", "galaxy-s24.gpu/litert"),
        ("rtx-3080", None, "rtx-3080/onnxruntime"),
        ("loongson-3a6000", None, "loongson-3a6000/onnxruntime"),
        ("celeron-m-420", None, "celeron-m-420/ncnn"),
        ("jetson-orin-nano.gpu", None, "jetson-orin-nano.gpu/onnxruntime"),
        ("this-host", None, "this-host/onnxruntime"),
        ("this-host:2t", None, "this-host/onnxruntime:2t"),
        ("raspberry-pi-4/litert:1t", None, "raspberry-pi-4/litert:1t"),
        ("galaxy-s24/litert:2t:eco", None, "galaxy-s24/litert:2t:eco"),
        ("galaxy-s24.npu/litert:balanced", None, "galaxy-s24.npu/litert:balanced"),
        ("galaxy-s24/litert:performance", None, "galaxy-s24/litert"),
    ],
)
def test_what_a_device_string_means(text: str, target: str | None, key: str) -> None:
    assert resolve_device(text, target) == key
    assert resolve_device(key) == key


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rasberry-pi-5/onnxruntime", r"unknown device 'rasberry-pi-5'; the nearest are raspberry-pi-5.*compareto devices list; did you mean 'raspberry-pi-5'"),
        ("qwertyuiop/onnxruntime", r"unknown device 'qwertyuiop'; all 1\d\d are listed by: compareto devices list$"),
        ("raspberry-pi-5.npu/litert", r"device 'raspberry-pi-5' has no unit 'npu'; accepted: cpu, gpu"),
        ("galaxy-s24.npu/executorch", r"device 'galaxy-s24.npu' has no runtime 'executorch'; accepted: litert, onnxruntime, qnn_dlc"),
        ("raspberry-pi-5/onnxruntme", r"has no runtime 'onnxruntme'; accepted: .*did you mean 'onnxruntime'"),
        ("raspberry-pi-5", r"leaves open which runtime is meant; accepted: raspberry-pi-5/onnxruntime, raspberry-pi-5/litert"),
        ("rtx-3080:4t", r"threads apply to a cpu only"),
        ("this-host/onnxruntime:0t", r"'0t' is not accepted there; accepted: threads, such as 2t; its power modes are not known"),
        ("galaxy-s24/litert:2t:ecco", r"'ecco' is not accepted there; .*performance, balanced, eco; did you mean 'eco'"),
        ("galaxy-s24/litert:eco:2t", r"'2t' is not accepted there"),
        ("galaxy-s24/litert:eco:eco", r"'eco' is not accepted there"),
        ("", r"is not of the form DEVICE"),
    ],
)
def test_a_mistake_is_named_with_what_is_accepted(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_device(text)


def test_an_unknown_device_lists_only_a_few_names() -> None:
    with pytest.raises(UserError) as error:
        resolve_device("snapdragon-800")
    assert str(error.value).count("snapdragon-8") <= 6


def test_every_key_resolves_to_itself() -> None:
    assert len(device_keys()) >= 300
    assert len(set(device_keys())) == len(device_keys())
    assert all(resolve_device(key) == key for key in device_keys())
    assert device_names()[0] == "this-host"


def test_naming_devices_loads_no_torch() -> None:
    code = "import sys; from evaluators.devices import resolve_device as r; r('this-host'); sys.exit('torch' in sys.modules or 'onnxruntime' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
