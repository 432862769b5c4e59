from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.devices import device_names
from search.commands import devices


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    devices.register(parser.add_subparsers())
    args = parser.parse_args(["devices", *arguments])
    code: int = args.run(args)
    return code


def test_list_names_every_device_with_its_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in device_names())
    assert "npu: litert" in printed


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--format", "json") == 0
    rows = {row["device"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(device_names())
    assert rows["galaxy-s24"]["units"]["npu"] == ["litert"]
    assert rows["cortex-a53-2gb"]["memory_bytes"] == 2_000_000_000


def test_show_prints_figures_beside_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "raspberry-pi-5") == 0
    by_name = capsys.readouterr().out
    assert "| memory bandwidth | 17.1 GB/s | LPDDR4X-4267" in by_name
    assert run("show", "raspberry-pi-5/litert") == 0
    assert capsys.readouterr().out == by_name


def test_show_as_json_is_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "a100", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["units"]["gpu"]["peak_gmacs"]["int8"]["value"] == 312_000


def test_show_of_this_host_says_that_it_is_not_calibrated(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))
    assert run("show", "this-host") == 0
    assert "run: compareto devices calibrate" in capsys.readouterr().out


def test_an_unknown_device_is_a_mistake_with_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean 'pixel-7'"):
        run("show", "pixel-77")


def test_threads_must_be_a_positive_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("calibrate", "--threads", "0")
    assert "expected a positive number of threads, got '0'" in capsys.readouterr().err
