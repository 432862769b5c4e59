from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.measurements import family, read_measurements, twin_of

NETWORKS = {name: (MeasuredKernel("conv", 1e9, 1e4, 1e5, 1e5, False, 0, 1),) for name in ("a", "b")}
HEADER = "device,loop_count,num_threads,powersave,gpu_device,cooling_down,model,min_ms,max_ms,avg_ms\n"


def write(path: Path, text: str) -> Path:
    file = path / "measurements.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_row_that_was_disturbed_is_left_out(tmp_path: Path) -> None:
    found = read_measurements(write(tmp_path, HEADER + "pi,4,1,0,-1,1,a,100,500,300\npi,4,1,0,-1,1,b,100,110,105\n"), NETWORKS)
    assert found.disturbed == 1
    assert np.isnan(found.ms[0, 0])
    assert found.ms[0, 1] == 100


def test_settings_are_told_apart_and_a_second_run_too(tmp_path: Path) -> None:
    rows = ["4,1,0,-1,1,a,100", "4,1,0,-1,1,b,90", "4,4,0,-1,1,a,30", "4,1,2,-1,1,a,95", "4,1,0,1,1,a,20", "4,1,0,-1,1,a,101", "8,1,0,-1,0,a,102"]
    found = read_measurements(write(tmp_path, HEADER + "".join(f"pi,{row},,\n" for row in rows)), NETWORKS)
    assert [(s.unit, s.threads, s.cores, s.gpu, s.run) for s in found.settings] == [
        ("cpu", 1, 0, -1, 0),
        ("cpu", 4, 0, -1, 0),
        ("cpu", 1, 2, -1, 0),
        ("gpu", 1, 0, 1, 0),
        ("cpu", 1, 0, -1, 1),
        ("cpu", 1, 0, -1, 2),
    ]
    assert len(found.of_unit("gpu").settings) == 1


def test_only_four_columns_are_needed(tmp_path: Path) -> None:
    found = read_measurements(write(tmp_path, "device,num_threads,model,min_ms\npi,2,a,100\n"), NETWORKS)
    assert found.settings[0].unit == "cpu"
    assert found.ms[0, 0] == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("device,num_threads,model,min_s\npi,1,a,1\n", "no column 'min_ms'.*did you mean 'min_s'"),
        ("device,num_threads,model,min_ms\n", "no measurements"),
        ("device,num_threads,model,min_ms\npi,1,a,soon\n", "line 2: min_ms is 'soon'"),
        ("device,num_threads,model,min_ms\npi,1,a,-3\n", "line 2: min_ms is '-3'"),
        ("device,num_threads,model,min_ms\npi,0,a,3\n", "num_threads is '0'"),
        ("device,num_threads,model,min_ms\npi,1,aa,3\n", "network 'aa' has no layers.*did you mean 'a'"),
        ("device,num_threads,model,min_ms\npi,1,a,0.1\npi,1,b,0.2\n", "cannot be milliseconds.*are these seconds"),
        ("device,num_threads,model,min_ms\npi,1,a,9e6\n", "cannot be milliseconds.*are these microseconds"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_measurements(write(tmp_path, text), NETWORKS)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_measurements(tmp_path / "none.csv", NETWORKS)


def test_twins_and_families() -> None:
    assert twin_of("resnet18_int8") == twin_of("resnet18") == "resnet18"
    assert family("mobilenetv2_yolov3") == family("mobilenet_ssd") == "mobilenet"
    assert family("yolo-fastest-1.1") == family("yolov4-tiny")
