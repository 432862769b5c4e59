from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.devices import this_host
from search.commands import devices


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    devices.register(parser.add_subparsers())
    args = parser.parse_args(["devices", "calibrate", *arguments])
    code: int = args.run(args)
    return code


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pixel-7/litert",), "pixel-7/litert is not this machine; give --anchor with measurements made there, or --forget"),
        (("pixel-7/litert", "--runtime", "litert", "--forget"), "--runtime and --threads are for this machine"),
        (("galaxy-s24.npu+cpu/litert", "--forget"), "anchors are of one unit"),
        (("--anchor", "knee=3"), "this-host has no anchors: it is measured itself"),
        (("pixel-77/litert", "--forget"), "did you mean 'pixel-7'"),
        (("--runtime", "litrt"), "this-host has no runtime 'litrt'; accepted: onnxruntime, litert, executorch; did you mean 'litert'?"),
        (("this-host/litert", "--runtime", "executorch"), "--runtime executorch: this-host/litert says litert; give it once"),
        (("this-host:1t", "--threads", "2"), "--threads 2: this-host:1t says 1; give it once"),
    ],
)
def test_what_makes_no_sense_together_is_refused(arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))
    monkeypatch.setattr(this_host, "calibrate_this_host", lambda *_: pytest.fail("nothing is to be measured"))
    with pytest.raises(UserError) as error:
        run(*arguments)
    assert said in str(error.value)


def test_to_forget_what_there_is_not_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))
    assert run("pixel-7/litert", "--forget") == 0
    assert "pixel-7/litert has no anchors" in capsys.readouterr().out
