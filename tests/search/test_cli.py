import argparse
import subprocess
import sys
from pathlib import Path

import pytest

from compressors.errors import CompressionError, UserError
from search import cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command line mutes for users stays loud in the tests that follow."""
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text
    assert f"compareto {command}" in text.split("example", 1)[1]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert all(command in text for command in cli.COMMANDS)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("there is no such thing"), 2, "error: there is no such thing\n"),
        (CompressionError("nothing would be left of layer1"), 1, "failed: infeasible: nothing would be left of layer1\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=run)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    assert cli.main([]) == code
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ZeroDivisionError

    parser = argparse.ArgumentParser()
    parser.set_defaults(run=run)
    monkeypatch.setattr(cli, "build_parser", lambda: parser)
    with pytest.raises(ZeroDivisionError):
        cli.main([])


def test_the_command_runs_as_a_process() -> None:
    found = subprocess.run([sys.executable, "-m", "search.cli", "check", "nowhere.yaml"], check=False, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 2
    assert found.stderr == "error: no experiment file 'nowhere.yaml'; accepted: a YAML file, or quickstart\n"
    assert found.stdout == ""
