from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from compressors.errors import UserError
from evaluators.devices.fitting.layers import MeasuredKernel
from evaluators.devices.fitting.measurements import read_measurements, twin_of

NETWORKS = {name: (MeasuredKernel("conv", 1e9, 1e4, 1e5, 1e5, name.endswith("_int8"), 0, 1),) for name in ("a", "a_int8", "b/Encoder", "c")}
HEADER = "model,precision,component,device,runtime,ms,mem_min_mb,primary_unit,layers_total,layers_npu,layers_gpu,layers_cpu,tool_versions\n"


def row(
    model: str = "a", precision: str = "float", component: str = "A", device: str = "phone", runtime: str = "tflite", ms: object = 1.5, npu: str = "9.0"
) -> str:
    return f"{model},{precision},{component},{device},{runtime},{ms},0.0,NPU,9.0,{npu},,,{{'qairt': '2.43'}}\n"


def write(path: Path, rows: Sequence[str]) -> Path:
    file = path / "perf.csv"
    file.write_text(HEADER + "".join(rows), encoding="utf-8")
    return file


def test_rows_are_settings_of_a_device_and_a_runtime(tmp_path: Path) -> None:
    rows = [
        row(),
        row(precision="w8a8", ms=0.5),
        row(runtime="onnx"),
        row(runtime="qnn_dlc", device="car"),
        row("b", runtime="qnn_context_binary", component="Encoder", device="car"),
    ]
    found = read_measurements(write(tmp_path, rows), NETWORKS)
    assert [(s.device, s.unit, s.runtime, s.threads) for s in found.settings] == [
        ("phone", "npu", "litert", 1),
        ("phone", "npu", "onnxruntime", 1),
        ("car", "npu", "qnn_dlc", 1),
    ]
    assert found.networks == ("a", "a_int8", "b/Encoder")
    np.testing.assert_array_equal(found.ms, [[1.5, 0.5, np.nan], [1.5, np.nan, np.nan], [1.5, np.nan, 1.5]])


def test_what_did_not_run_on_the_npu_alone_is_left_out_and_so_are_other_precisions(tmp_path: Path) -> None:
    rows = [row(), row("c", npu="8.0"), row("c", npu=""), row("c", precision="w8a16"), row("c", ms=""), row("unknown")]
    assert read_measurements(write(tmp_path, rows), NETWORKS).networks == ("a",)


def test_integers_may_be_named_as_the_table_names_them(tmp_path: Path) -> None:
    networks = {"c": NETWORKS["a"], "c_w8a8": NETWORKS["a_int8"]}
    found = read_measurements(write(tmp_path, [row("c"), row("c", precision="w8a8")]), networks)
    assert found.networks == ("c", "c_w8a8")
    assert {twin_of(name) for name in found.networks} == {"c"}


def test_a_component_must_be_named_where_a_model_has_several(tmp_path: Path) -> None:
    rows = [row("a", component="A"), row("c", component="First"), row("c", component="Second")]
    assert read_measurements(write(tmp_path, rows), NETWORKS).networks == ("a",)


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_row_at_a_low_clock_is_disturbed_unless_another_runtime_took_as_long(tmp_path: Path, confirmed: bool) -> None:
    networks = {f"n{i}": NETWORKS["a"] for i in range(6)}
    slow = {("d2", "tflite", 3)} | ({("d2", "onnx", 3)} if confirmed else set())
    rows = [
        row(f"n{i}", device=f"d{d}", runtime=runtime, ms=(1 + d) * 2**i * (4 if (f"d{d}", runtime, i) in slow else 1))
        for d in range(5)
        for runtime in ("tflite", "onnx")
        for i in range(6)
    ]
    found = read_measurements(write(tmp_path, rows), networks)
    place = next(i for i, s in enumerate(found.settings) if (s.device, s.runtime) == ("d2", "litert"))
    assert found.disturbed == (0 if confirmed else 1)
    assert np.isnan(found.ms).sum() == found.disturbed
    assert np.isnan(found.ms[place, 3]) != confirmed


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(ms="fast")], "line 2: ms is 'fast'; expected milliseconds above 0"),
        ([row(ms="-1")], "line 2: ms is '-1'"),
        ([row("unknown")], "none of its networks that ran on a neural processor has layers; they are unknown"),
        ([row(ms=0.0015)], "cannot be milliseconds"),
    ],
)
def test_bad_rows_are_one_error(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(UserError, match=r"perf\.csv") as error:
        read_measurements(write(tmp_path, rows), NETWORKS)
    assert message in str(error.value)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, [row()])
    file.write_text(file.read_text(encoding="utf-8").replace(",component,", ",part,"), encoding="utf-8")
    with pytest.raises(UserError, match="no column 'component'"):
        read_measurements(file, NETWORKS)
