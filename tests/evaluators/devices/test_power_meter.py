from __future__ import annotations

from pathlib import Path

import pytest

from evaluators.devices import power_meter as module
from evaluators.devices.power_meter import PowerMeter, measured_w, power_meter


def package(root: Path, name: str, microjoules: int) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")
    return folder


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_nvml", lambda: None)


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 2_000_000)
    package(tmp_path, "intel-rapl:1", 3_000_000)
    package(tmp_path, "intel-rapl:0:0", 9_000_000)
    meter = power_meter(tmp_path)
    assert meter is not None
    assert meter.name == "RAPL, 2 packages"
    assert meter.read_j() == pytest.approx(5.0)


def test_a_counter_that_wrapped_around_has_not_run_backwards(tmp_path: Path) -> None:
    folder = package(tmp_path, "intel-rapl:0", 9_500_000)
    meter = power_meter(tmp_path)
    assert meter is not None
    before = meter.read_j()
    (folder / "energy_uj").write_text("500000")
    assert meter.spent_j(before) == pytest.approx(1.0)


def test_without_a_readable_counter_there_is_no_meter(tmp_path: Path) -> None:
    assert power_meter(tmp_path) is None
    assert power_meter(tmp_path / "missing") is None
    (package(tmp_path, "intel-rapl:0", 1) / "energy_uj").unlink()
    assert power_meter(tmp_path) is None


def test_watts_are_joules_over_seconds() -> None:
    joules = iter([10.0, 10.0 + 1e-9])
    meter = PowerMeter("test", lambda: next(joules), 100.0)
    calls: list[int] = []
    watts = measured_w(meter, lambda: calls.append(1), 0.01)
    assert calls
    assert 0 < watts < 1e-6
