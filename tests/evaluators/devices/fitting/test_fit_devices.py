from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluators.devices.fitted import fitted_runtime
from evaluators.devices.fitting.features import design
from evaluators.devices.fitting.fit_devices import fit_devices
from evaluators.devices.fitting.layers import read_layers
from evaluators.devices.fitting.measurements import read_measurements
from evaluators.devices.profile import load_profile


def test_what_is_written_predicts_what_was_measured(benchmark_files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    name = load_profile("raspberry-pi-4").names[0]
    measurements, layers = benchmark_files(devices=(name, "nobody's", "other"))
    networks = read_layers(layers)
    measured = read_measurements(measurements, networks)
    lines: list[str] = []
    fitted = fit_devices(measured, networks, "a test", progress=lines.append)
    written, left = fitted.write(tmp_path / "out")
    assert [path.name for path in written] == ["raspberry-pi-4.yaml", "_pooled.yaml"]
    assert left == ["nobody's", "other"]
    assert "cpu/ncnn" in lines[0]
    profile = load_profile(str(written[0]))
    found = fitted_runtime(profile, "cpu/ncnn")
    assert found is not None
    assert (found.rows, found.networks, found.source) == (20, 10, "a test")
    assert set(found.error) == {"fp32", "int8"}
    work = design(networks, measured.networks)
    for setting, ms in zip(found.settings, measured.ms[:2], strict=True):
        assert np.abs(work @ setting.costs() / ms - 1).mean() < 0.06
    text = written[0].read_text(encoding="utf-8")
    assert "# " not in text.partition("\nfitted:")[2]
    assert text.partition("\nfitted:")[0].count("sources:") == 1


def test_a_second_fit_replaces_the_first(benchmark_files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    name = load_profile("raspberry-pi-4").names[0]
    measurements, layers = benchmark_files(devices=(name, "other"))
    networks = read_layers(layers)
    fitted = fit_devices(read_measurements(measurements, networks), networks, "a test", progress=lambda line: None)
    (path, _), _ = fitted.write(tmp_path)
    once = path.read_text(encoding="utf-8")
    fitted.write(tmp_path)
    assert path.read_text(encoding="utf-8") == once
    assert once.count("\nfitted:") == 1


def test_the_same_measurements_give_the_same_files(benchmark_files: Callable[..., tuple[Path, Path]], tmp_path: Path) -> None:
    measurements, layers = benchmark_files()
    networks = read_layers(layers)
    measured: Any = read_measurements(measurements, networks)
    first, second = (fit_devices(measured, networks, "a test", progress=[].append) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("threads", [1, 4])
def test_all_settings_are_kept(benchmark_files: Callable[..., tuple[Path, Path]], threads: int) -> None:
    measurements, layers = benchmark_files()
    networks = read_layers(layers)
    fitted = fit_devices(read_measurements(measurements, networks), networks, "a test", progress=[].append)
    assert set(fitted.devices) == {"slow", "medium", "fast", "other"}
    assert all(threads in [s.threads for s in runtimes["cpu/ncnn"].settings] for runtimes in fitted.devices.values())
