"""Searches that share a cache, and disks that fill up in the middle of one."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from compressors.errors import StorageError
from search.experiment import Experiment
from search.results import Results
from search.study import Study

ROOT = Path(__file__).parents[2]
SMALL = [
    "data.max_samples=300",
    "fit.epochs=1",
    "search.algorithm=random",
    "search.workers=1",
    "search.rungs=[]",
    "search.replicates=0",
    "search.verify=false",
    "recipe=[{prune: {ratio: {channels: {choice: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}}}, {distill: {steps: 4}}, {quantize: {weight_bits: {choice: [4, 8]}}}]",
]

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray and torchao warn about their own internals


def test_two_searches_at_once_compute_every_stage_once_and_find_the_same(tmp_path: Path) -> None:
    environment = {**os.environ, "COMPARETO_CACHE": str(tmp_path / "cache")}
    settings = [part for setting in [*SMALL, "search.trials=4"] for part in ("--set", setting)]
    command = [sys.executable, "-W", "ignore", "-m", "search.cli", "search", "quickstart", *settings, "--storage", str(tmp_path)]
    searches = [
        subprocess.Popen([*command, "--name", name], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for name in ("one", "two")
    ]
    for search in searches:
        out, _ = search.communicate(timeout=900)
        assert search.returncode == 0, out
    records = [{r.id: r for r in Results.load(name, tmp_path).records} for name in ("one", "two")]
    assert set(records[0]) == set(records[1])
    for name, record in records[0].items():
        assert (record.status, record.metrics, record.report) == ("ok", records[1][name].metrics, records[1][name].report)
    computed = [stage.key for study in records for record in study.values() for stage in record.stages if not stage.cached]
    assert len(computed) == len(set(computed)) > 8


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk on which a few trials find room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_disk_that_fills_up_loses_nothing_and_the_search_goes_on_when_there_is_room(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE", str(disk / "cache"))
    experiment = Experiment.load("quickstart", [*SMALL, "search.trials=10", "recipe.0.prune.ratio.channels={uniform: [0.0, 0.3]}"])
    with pytest.raises(StorageError, match=r"cannot write the (cache|study) .*: No space left on device"):
        Study(experiment, name="mine", storage=disk).run()
    study = disk / "mine"
    before = {path.name: path.read_text() for path in (study / "records").glob("*.json")}
    assert "baseline-fp32.json" in before
    assert all(json.loads(text)["status"] == "ok" for text in before.values()), "a full disk is no fact about a recipe"
    assert not [path for path in study.rglob(".*") if path.is_file()]
    with pytest.raises(StorageError, match="No space left on device"):
        Study(experiment, name="mine", storage=disk, resume=True).run()
    subprocess.run(["mount", "-o", "remount,size=60m", str(disk)], check=True)
    results = Study(experiment, name="mine", storage=disk, resume=True).run()
    assert {path.name: path.read_text() for path in (study / "records").glob("*.json") if path.name in before} == before
    assert sorted(r.id for r in results.records if r.baseline is None) == [f"{i:04d}" for i in range(1, 11)]
    assert set(results.statuses()) == {"ok"}
    assert not list((study / "pending").iterdir())
