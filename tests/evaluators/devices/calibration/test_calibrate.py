from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from compressors.errors import UserError
from evaluators.devices import device_named, this_host
from evaluators.devices.calibration import calibrate
from evaluators.devices.calibration.fit import fit
from evaluators.devices.calibration.probes import Probe, probes
from evaluators.devices.kernel_time import Product, odd


@pytest.fixture(scope="module")
def benchmarks() -> tuple[Probe, ...]:
    return tuple(probes())


def imagined(benchmarks: tuple[Probe, ...]) -> tuple[Any, Any]:
    """Milliseconds of short and long chains on a machine with 40 GMAC/s, 80 in integers, 20 GB/s, 2 us a launch and 10 us an inference."""
    kernels = [
        0.002 * len(p.macs)
        + (sum(p.macs) / (80e6 if p.precision.startswith("int8") else 40e6) if p.macs[0] else sum(p.inputs + p.outputs) * p.element_bytes / 20e6)
        for p in benchmarks
    ]
    short = np.array([0.010 + k for k in kernels])
    return short, short + [k * p.repeats for k, p in zip(kernels, benchmarks, strict=True)]


@pytest.fixture
def quiet_machine(benchmarks: tuple[Probe, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Timings come from the imagined machine; the list counts how often it was timed."""
    timed: list[int] = []

    def time_probes(given: Any, threads: int, rounds: Any, progress: Any) -> Any:
        timed.append(threads)
        return *imagined(given), np.full(len(given), 0.02)

    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))
    monkeypatch.setattr(calibrate, "probes", lambda: benchmarks)
    monkeypatch.setattr(calibrate, "time_probes", time_probes)
    monkeypatch.setattr(calibrate, "restart_us", lambda given, threads: 70.0)
    this_host.forget()
    yield timed
    this_host.forget()


def test_the_fit_finds_the_machine_that_made_the_times(benchmarks: tuple[Probe, ...]) -> None:
    fitted = fit(benchmarks, *imagined(benchmarks))
    assert np.sqrt(np.mean(fitted.residuals**2)) < 0.05
    assert fitted.compute["fp32"]["conv3x3"].gmacs == pytest.approx(40, rel=0.15)
    assert fitted.compute["int8"]["gemm"].gmacs == pytest.approx(80, rel=0.15)
    assert fitted.bandwidth_gb_s["softmax"] == pytest.approx(20, rel=0.15)
    assert fitted.overhead_ms == pytest.approx(0.010, rel=0.15)


def test_every_kind_of_probe_runs(benchmarks: tuple[Probe, ...]) -> None:
    seen = set()
    for probe in benchmarks:
        if (probe.op_class, probe.precision) in seen:
            continue
        seen.add((probe.op_class, probe.precision))
        for model, feed in (probe.short, probe.long):
            (output,) = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feed)
            assert np.isfinite(output).all()
    assert len(seen) >= 20


def operators(model: bytes, path: Path) -> list[str]:
    """Of the graph that ONNX Runtime executes."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [f"{node.domain}:{node.op_type}".removeprefix(":") for node in onnx.load(path).graph.node]


def test_integer_probes_really_run_integer_kernels(benchmarks: tuple[Probe, ...], tmp_path: Path) -> None:
    fused = {"conv3x3": "QLinearConv", "pointwise": "QLinearConv", "depthwise": "QLinearConv", "gemm": "QLinearMatMul", "elementwise": "QLinearAdd"}
    for op_class, operator in fused.items():
        probe = next(p for p in benchmarks if p.op_class == op_class and p.precision == "int8")
        short, long = ([o.rpartition(":")[2] for o in operators(chain[0], tmp_path / "m.onnx")] for chain in (probe.short, probe.long))
        assert long.count(operator) - short.count(operator) == probe.repeats * len(probe.macs)
        assert "Relu" not in long


def test_channels_that_are_no_whole_blocks_run_other_kernels(benchmarks: tuple[Probe, ...], tmp_path: Path) -> None:
    found = set()
    for probe in benchmarks:
        if probe.precision == "fp32" and probe.op_class in ("conv3x3", "conv", "pointwise", "depthwise") and max(probe.weights) < 7000:
            sizes = (np.array(values) for values in (probe.macs, probe.weights, probe.outputs))
            product = Product.of(probe.op_class, np.arange(len(probe.macs)), *sizes, ((0, False),), np.zeros(len(probe.macs), dtype=np.int64))
            blocked = "com.microsoft.nchwc:Conv" in operators(probe.long[0], tmp_path / "m.onnx")
            found.add((bool(odd(product).any()), blocked))
    # On processors without blocked kernels there is nothing to tell apart; where a block has 16 channels, fewer than those are read as they are.
    wider = {(False, True), (True, False), (True, True)}
    assert found in ({(False, True), (True, False)}, {(False, False), (True, False)}, wider)


def test_a_calibration_is_made_once_and_kept(quiet_machine: list[int], graph: Any) -> None:
    first = device_named("this-host").cost(graph, graph.baseline())["latency_ms"].estimate(0)
    assert first.tier == "host-calibrated"
    assert first.low < first.value < first.high
    this_host.forget()
    assert device_named("this-host").cost(graph, graph.baseline())["latency_ms"].estimate(0) == first
    assert quiet_machine == [1]


def test_energy_of_this_host_stays_a_guess(quiet_machine: list[int], graph: Any) -> None:
    assert device_named("this-host").cost(graph, graph.baseline())["energy_mj"].tier == "spec-only"


def test_a_damaged_calibration_is_made_again(quiet_machine: list[int], tmp_path: Path) -> None:
    device_named("this-host")
    (kept,) = (tmp_path / "devices").glob("*.yaml")
    kept.write_text("rates: [")
    this_host.forget()
    assert device_named("this-host").tier == "host-calibrated"
    assert quiet_machine == [1, 1]


def test_on_a_noisy_machine_the_nearest_profile_stands_in_and_says_so(quiet_machine: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "time_probes", lambda given, threads, rounds, progress: (*imagined(given), np.full(len(given), 0.9)))
    lines: list[str] = []
    model = device_named("this-host", progress=lines.append)
    assert model.tier == "spec-only"
    assert model.key == "this-host/onnxruntime"
    assert "90% between rounds" in lines[-1]
    assert "is used instead" in lines[-1]


def test_to_calibrate_a_noisy_machine_is_refused(quiet_machine: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(calibrate, "time_probes", lambda given, threads, rounds, progress: (*imagined(given), np.full(len(given), 0.9)))
    monkeypatch.setattr(calibrate, "_prepared", lambda threads, folder, progress: ([], []))
    with pytest.raises(UserError, match="this-host cannot be calibrated: timings vary by 90% between rounds, more than the 25%"):
        this_host.calibrate_this_host(lambda line: None)
    assert not list((tmp_path / "devices").glob("*.yaml"))


def test_whole_networks_decide_the_interval(quiet_machine: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    residuals = np.linspace(-0.06, 0.06, 21)
    monkeypatch.setattr(calibrate, "_prepared", lambda threads, folder, progress: ([], []))
    monkeypatch.setattr(calibrate, "_corrected", lambda rates, prepared, rounds, progress: (rates, residuals, 0.02))
    path = this_host.calibrate_this_host(lambda line: None)
    found = this_host.read_calibration(path)
    assert found is not None
    assert (found.networks, found.half_width) == (21, pytest.approx(0.1))  # the root of 0.06 and 0.08 squared
    assert found.residual == pytest.approx(np.sqrt(np.mean(residuals**2)))
    assert device_named("this-host").tier == "host-calibrated"
    assert quiet_machine == [1]


def test_more_threads_than_cores_is_a_mistake(quiet_machine: list[int]) -> None:
    with pytest.raises(UserError, match=r"4096 threads were asked for, this machine has \d+ cores"):
        device_named("this-host:4096t")
