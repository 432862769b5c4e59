"""A search that is interrupted leaves the front so far, and goes on where it was."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.results import Results

SETTINGS = [
    "data.max_samples=200",
    "fit.epochs=1",
    "devices=[raspberry-pi-5/onnxruntime]",
    "objectives=[accuracy, size_bytes]",
    "constraints=[]",
    "search.workers=1",
    "search.cpus_per_trial=1",
    "search.verify=false",
    "search.replicates=0",
    "recipe=[{prune: {ratio: {channels: {uniform: [0.1, 0.6]}}}}, {distill: {epochs: 3}}]",
]


def command(folder: Path, trials: int, *more: str) -> list[str]:
    overrides = [word for setting in SETTINGS for word in ("--set", setting)]
    search = ["search", "quickstart", "--storage", str(folder), "--name", "mine", "--trials", str(trials)]
    return [sys.executable, "-m", "search.cli", *search, *overrides, *more]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_keeps_what_has_ended(tmp_path: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "COMPARETO_CACHE": str(tmp_path / "cache")}
    # What a shell starts in the background ignores SIGINT, and so would what it starts in turn.
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.default_int_handler)}
    process = subprocess.Popen(command(tmp_path, 500), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heeding)
    records = tmp_path / "mine" / "records"
    while len(list(records.glob("0*.json"))) < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 130, (out, err)
    assert "Traceback" not in err
    assert "interrupted; what has ended is kept: continue with --name mine --resume" in out
    assert "on the front" in out
    ended = {path.name: path.read_text() for path in records.glob("*.json")}
    assert (tmp_path / "mine" / "front.csv").is_file()
    assert not (tmp_path / "mine" / "lease").exists()
    if number == signal.SIGINT:
        trials = sum(name.startswith("0") for name in ended) + 1
        done = subprocess.run(command(tmp_path, trials, "--resume"), env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert {name: (records / name).read_text() for name in ended} == ended
        assert len([r for r in Results.load(tmp_path / "mine").records if r.baseline is None]) == trials
