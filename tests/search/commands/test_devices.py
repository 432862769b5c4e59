from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.devices import device_names
from evaluators.devices.profile import profile_path
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
    assert "npu: litert, onnxruntime, qnn_dlc (" in printed
    assert "iphone-15-pro" in printed
    assert "(spec-only)" in printed


def test_list_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list", "--format", "json") == 0
    rows = {row["device"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(device_names())
    assert rows["galaxy-s24"]["units"]["npu"] == ["litert", "onnxruntime", "qnn_dlc"]
    assert rows["iphone-15-pro"]["tiers"] == {"cpu": ["spec-only"] * 4}
    assert rows["cortex-a53-2gb"]["memory_bytes"] == 2_000_000_000


def test_show_prints_figures_beside_their_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "raspberry-pi-5") == 0
    by_name = capsys.readouterr().out
    assert "| memory bandwidth | 17.1 GB/s | Raspberry Pi 5 product brief, the 8 GB model; LPDDR4X-4267" in by_name
    assert "8.5 W sustained (Raspberry Pi documentation" in by_name
    assert "limit 80 C" in by_name
    assert run("show", "raspberry-pi-5/litert") == 0
    assert capsys.readouterr().out == by_name


def test_show_as_json_is_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "a100", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["units"]["gpu"]["peak_gmacs"]["int8"]["value"] == 312_000


def test_show_of_this_host_says_that_it_is_not_calibrated(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))
    assert run("show", "this-host") == 0
    printed = capsys.readouterr().out
    assert "run: compareto devices calibrate" in printed
    assert "energy: an estimate" in printed


def test_show_of_a_file_checks_a_profile_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "my-board.yaml"
    path.write_text(profile_path("raspberry-pi-4").read_text())
    assert run("show", str(path)) == 0
    assert "4 x Cortex-A72 1.8 GHz" in capsys.readouterr().out
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(path.read_text().replace("gb: 4", "gb: -4"))
    with pytest.raises(UserError, match=r"wrong.yaml: memory.gb is -4"):
        run("show", str(wrong))
    with pytest.raises(UserError, match=r"other.yaml: cannot be read"):
        run("show", str(tmp_path / "other.yaml"))


def test_show_says_what_the_network_adds(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "remote") == 0
    assert "Network: 40 ms round trip, 2.5 MB/s up" in capsys.readouterr().out


def test_an_unknown_device_is_a_mistake_with_a_suggestion() -> None:
    with pytest.raises(UserError, match="did you mean 'pixel-7'"):
        run("show", "pixel-77")


def test_threads_must_be_a_positive_number(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("calibrate", "--threads", "0")
    assert "expected a positive number of threads, got '0'" in capsys.readouterr().err
