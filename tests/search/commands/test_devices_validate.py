from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.devices.profile import load_profile
from search.commands import devices


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    devices.register(parser.add_subparsers())
    args = parser.parse_args(["devices", "validate", *arguments])
    code: int = args.run(args)
    return code


@pytest.fixture
def files(benchmark_files: Callable[..., tuple[Path, Path]]) -> tuple[str, ...]:
    measurements, layers = benchmark_files(devices=(load_profile("raspberry-pi-4").names[0], "a phone", "a board"))
    return ("--measurements", str(measurements), "--layers", str(layers))


def test_json_has_the_figures_of_every_group(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*files, "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unmatched"] == []
    assert len(found["groups"]) == 4
    needed = {"class", "threads", "precision", "rows", "mape", "median_ape", "within_10", "kendall_tau", "coverage_90", "baselines"}
    for group in found["groups"]:
        assert needed <= set(group)
        assert set(group["baselines"]) == {"macs", "parameters"}
        assert 0 < group["mape"] < 1


def test_the_table_shows_percent(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*files, "--hold-out", "devices", "--anchors", "1") == 0
    printed = capsys.readouterr().out
    assert "held out: devices; 1 anchors" in printed
    assert "cpu 2+ int8" in printed


def test_shipped_profiles_are_scored_and_unknown_devices_listed(files: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*files, "--hold-out", "none", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unmatched"] == ["a phone", "a board"]
    rows = sum(group["rows"] for group in found["groups"])
    assert run(*files, "--hold-out", "none", "--anchors", "2", "--format", "json") == 0
    anchored = json.loads(capsys.readouterr().out)
    assert anchored["unmatched"] == ["a phone", "a board"]
    # Of ten networks in two settings each: one device, then all three less two anchors.
    assert (rows, sum(group["rows"] for group in anchored["groups"])) == (20, 3 * 2 * 8)
    assert all(group["mape"] < 0.5 for group in anchored["groups"])


def test_a_device_that_nobody_measured_needs_an_anchor(benchmark_files: Callable[..., tuple[Path, Path]]) -> None:
    measurements, layers = benchmark_files(devices=("a phone",))
    with pytest.raises(UserError, match="no profile lists a phone; with --anchors 1"):
        run("--measurements", str(measurements), "--layers", str(layers), "--hold-out", "none")


def test_an_unknown_hold_out_is_a_mistake(files: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="accepted: networks, devices, none"):
        run(*files, "--hold-out", "layers")
