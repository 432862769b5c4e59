from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from compressors.errors import UnexportableError, UserError
from compressors.targets import target_named
from compressors.targets.litert import LiteRT
from evaluators.devices import device_named, this_host
from evaluators.devices.calibration import calibrate, converted, preparing
from evaluators.devices.calibration.networks import Variant
from evaluators.devices.calibration.timing import Rounds
from evaluators.devices.roofline import Roofline


def small(count: int = 4) -> Iterator[Variant]:
    """Networks of linear layers, as floats and as integers, behind one chain."""
    torch.manual_seed(0)
    for i in range(count):
        width = 32 * (i + 1)
        name = "chain of linear layers" if i == 0 else f"network {i}"
        for form in ((), ({"quantize": {"mode": "dynamic"}},)):
            yield Variant(name, nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 8)).eval(), {"input": torch.randn(8, 16, 64)}, form)


class Quick(LiteRT):
    """Writes empty files, and runs nothing."""

    def export(self, model: Any, example_inputs: Any, folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "model.tflite").touch()
        return folder / "model.tflite"

    def load(self, path: Path, threads: int = 0) -> Any:
        assert path.name == "model.tflite"
        assert path.is_file()
        return lambda inputs: {"logits": inputs["input"]}


@pytest.fixture
def imagined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """Small networks in a runtime whose exports take no time, and times that nobody measured; the list grows by each export."""
    exports: list[Path] = []

    class Counting(Quick):
        def export(self, model: Any, example_inputs: Any, folder: Path) -> Path:
            exports.append(folder)
            return super().export(model, example_inputs, folder)

    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))
    monkeypatch.setattr(converted, "converted_variants", small)
    monkeypatch.setattr(converted, "target_named", lambda name: Counting())
    times = np.repeat(np.arange(1, 5) * 0.05, 2) + 0.02
    monkeypatch.setattr(converted, "time_runs", lambda runs, label, rounds, progress: (times, np.full(len(times), 0.02)))
    this_host.forget()
    yield exports
    this_host.forget()


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "version", lambda package: "1.0")


def test_a_calibration_is_kept_and_used_by_its_runtime_alone(imagined: list[Path], installed: None, graph: Any) -> None:
    lines: list[str] = []
    path = this_host.calibrate_this_host(lines.append, runtime="litert")
    assert ".litert." in path.name
    assert "preparing network 3, integers" in lines[-2]
    found = this_host.read_calibration(path)
    assert found is not None
    assert found.networks == 6, "the chain is no network"
    assert (found.machine["litert"], "onnxruntime" in found.machine) == ("1.0", False)
    model: Any = device_named("this-host/litert")
    assert (model.tier, model.key) == ("host-calibrated", "this-host/litert")
    assert isinstance(model.model, Roofline)
    assert model.model.target.name == "litert"
    assert len(imagined) == 8
    assert list(path.parent.glob("*.models")) == list(path.parent.glob("*.rounds.json")) == []


def test_without_a_calibration_the_nearest_profile_stands_in_and_says_so(imagined: list[Path], installed: None) -> None:
    lines: list[str] = []
    model = device_named("this-host/executorch:1t", progress=lines.append)
    assert model.tier == "spec-only"
    assert lines[-1].startswith("this-host/executorch:1t is not calibrated; `compareto devices calibrate this-host/executorch:1t` takes some minutes")
    assert imagined == []


def test_a_noisy_machine_is_refused(imagined: list[Path], installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converted, "time_runs", lambda runs, label, rounds, progress: (np.ones(len(runs)), np.full(len(runs), 0.9)))
    with pytest.raises(UserError, match="this-host cannot be calibrated: timings vary by 90% between rounds"):
        this_host.calibrate_this_host(lambda line: None, runtime="litert")


def test_what_was_exported_is_not_exported_again(imagined: list[Path], tmp_path: Path) -> None:
    target: Any = converted.target_named("litert")

    def interrupted(line: str) -> None:
        if "network 2, integers" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preparing.prepared_runs(small(), target, 1, tmp_path / "models", interrupted)
    before = len(imagined)
    tables, runs = preparing.prepared_runs(small(), target, 1, tmp_path / "models", lambda line: None)
    assert (before, len(imagined), len(tables), len(runs)) == (5, 8, 8, 8)
    assert len(Rounds(None, {}).of("models", 8)) == 0
    runs[-1]()


def test_what_the_runtime_cannot_express_is_left_out(tmp_path: Path) -> None:
    lines: list[str] = []

    class Narrow(Quick):
        def export(self, model: Any, example_inputs: Any, folder: Path) -> Path:
            lines.append("exporting")
            if lines.count("exporting") == 2:
                raise UnexportableError("no such operator")
            return super().export(model, example_inputs, folder)

    tables, runs = preparing.prepared_runs(small(2), Narrow(), 1, tmp_path, lines.append)
    assert (len(tables), len(runs)) == (3, 3)
    assert "calibrating this host: litert has no chain of linear layers, integers: no such operator" in lines


def test_a_runtime_that_is_not_installed_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(calibrate._PACKAGES, "litert", "no-such-package-here")
    with pytest.raises(UserError, match=r'litert is not installed: pip install "compareto\[litert\]"'):
        device_named("this-host/litert")


def test_chains_and_networks_come_in_all_their_forms() -> None:
    known = list(converted.converted_variants())
    chains = [v for v in known if v.network.startswith("chain of")]
    assert len(chains) == 29
    assert len(known) == 29 + 2 * len(converted._NETWORKS)
    assert {str(step) for v in known for step in v.steps} >= {"{'quantize': {'mode': 'static'}}", "{'quantize': {'mode': 'dynamic'}}"}
    assert any("weight_bits" in step["quantize"] for v in known for step in v.steps)
    assert target_named("litert").name == "litert"
