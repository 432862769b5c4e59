"""Studies that build on another one: run again, replayed, taken over; and the replicates of a front."""

from pathlib import Path

import pandas as pd
import pytest

from search.experiment import Experiment
from search.results import Results
from search.study import Study

PI, PIXEL = "raspberry-pi-5/onnxruntime", "pixel-7/onnxruntime"
SMALL = [
    "search.trials=3",
    "search.workers=1",
    "search.verify=false",
    "fit.epochs=2",
    f"devices=[{PI}, {PIXEL}]",
    "objectives=[accuracy, latency_ms, size_bytes]",
    "constraints=[]",
    "recipe=[{prune: {ratio: {channels: {uniform: [0.1, 0.6]}}}}, {distill: {steps: 4}}, {optional: {quantize: {weight_bits: 8}}}]",
]

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]  # Ray and torchao warn about their own internals


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    Study(Experiment.load("quickstart", SMALL), name="first", storage=root).run()
    return root


def computed(results: Results) -> list[str]:
    records = [*results.records, *(r for others in results.replicates.values() for r in others)]
    return [s.name for r in records for s in r.stages if not s.cached]


def test_members_of_each_devices_front_are_published_with_a_replicate(folder: Path) -> None:
    results = Results.load("first", folder)
    assert set(results.experiment.fronts) == {PI, PIXEL}
    trained = [r for r in results.front_records() if any("distill" in step for step in r.recipe)]
    assert trained
    for record in trained:
        assert record.examples, "what each example contributed"
        (again,) = results.replicates[record.id]
        assert (again.id, again.replicate, again.status) == (f"{record.id}-r1", 1, "ok")
        assert again.report["accuracy"].tier == "measured"
        keys = {s.key for s in record.stages if s.name == "distill"}
        assert not keys & {s.key for s in again.stages}, "another training"
    assert results.front()["seeds"].max() == 2


def test_an_unchanged_experiment_finds_everything_in_the_cache(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Results.load("first", folder)
    again = Study(Experiment.load("quickstart", SMALL), name="again", storage=folder).run()
    assert computed(first)
    assert computed(again) == []
    pd.testing.assert_frame_equal(again.front(), first.front())
    assert f"on {PI}: " in capsys.readouterr().out


def test_a_replay_repeats_every_recipe_under_its_id(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Results.load("first", folder)
    other = Experiment.load("quickstart", [*SMALL, "search.algorithm=random", "search.trials=1", "search.replicates=0"])
    again = Study(other, name="replayed", storage=folder, replay="first").run()
    assert {r.id: r.recipe for r in again.records if not r.baseline} == {r.id: r.recipe for r in first.records if not r.baseline}
    assert computed(again) == []
    assert "replay of first: 3 trials, no metric differs" in capsys.readouterr().out


def test_trials_of_another_study_are_taken_over_and_count_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = Results.load("first", folder)
    other = Experiment.load("quickstart", [*SMALL, "search.trials=1", "search.replicates=0", f"devices=[{PIXEL}]", "objectives=[accuracy, latency_ms]"])
    results = Study(other, name="second", storage=folder, source="first").run()
    taken = {r.id: r for r in results.records if r.origin}
    assert set(taken) == {f"first.{r.id}" for r in first.records if not r.baseline and r.status == "ok"}
    assert [r.id for r in results.records if not r.baseline and not r.origin] == ["0001"]
    for record in taken.values():
        same = first.record(record.id.partition(".")[2])
        assert record.metrics["accuracy"] == same.metrics["accuracy"]
        assert record.metrics[f"latency_ms@{PIXEL}"] == same.metrics[f"latency_ms@{PIXEL}"]
        assert f"latency_ms@{PI}" not in record.metrics
    assert results.record("0001").recipe not in [r.recipe for r in taken.values()], "nothing is tried twice"
    assert "taken over" in capsys.readouterr().err
