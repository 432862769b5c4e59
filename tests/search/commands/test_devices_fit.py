from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.devices.profile import load_profile
from search.commands import devices


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    devices.register(parser.add_subparsers())
    args = parser.parse_args(["devices", *arguments])
    code: int = args.run(args)
    return code


def test_fit_writes_profiles_and_names_what_has_none(
    benchmark_files: Callable[..., tuple[Path, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measurements, layers = benchmark_files(devices=(load_profile("raspberry-pi-4").names[0], "a phone"))
    assert run("fit", "--measurements", str(measurements), "--layers", str(layers), "--out", str(tmp_path / "out"), "--source", "a test") == 0
    printed = capsys.readouterr()
    assert "networks held out: fp32" in printed.out
    assert "no profile lists 'a phone'" in printed.err
    found = load_profile(str(tmp_path / "out" / "raspberry-pi-4.yaml"))
    assert found.tier("cpu", "ncnn") == "public-calibrated"
    assert found.fitted["cpu/ncnn"]["source"] == "a test"


def test_an_output_that_is_a_file_is_a_mistake(benchmark_files: Callable[..., tuple[Path, Path]]) -> None:
    measurements, layers = benchmark_files(devices=("a", "b"))
    with pytest.raises(UserError, match="is a file; expected a folder"):
        run("fit", "--measurements", str(measurements), "--layers", str(layers), "--out", str(layers))
