import dataclasses

from evaluators.metric import Estimate
from search.experiment import Experiment
from search.front_summary import front_summaries, spread_lines, technique_lines, tied_lines

PI, PIXEL = "raspberry-pi-5/onnxruntime", "pixel-7/onnxruntime"


def several(study):
    """The study with a latency that means each of its two devices, on which int8 costs differently."""
    results = study()
    experiment = Experiment.load("quickstart", [f"devices=[{PI}, {PIXEL}]", "objectives=[accuracy, latency_ms]", "constraints=[]"])
    fast = {f"latency_ms@{PIXEL}": Estimate(1e-3, 1e-3, 1e-3)}
    records = tuple(dataclasses.replace(r, metrics={**r.metrics, **fast}) if r.baseline == "prune-50" else r for r in results.records)
    return dataclasses.replace(results, experiment=experiment, records=records)


def test_an_objective_without_a_device_means_each_and_gives_each_a_front(study):
    results = several(study)
    assert results.experiment.objectives == ("accuracy", "latency_ms")
    assert [n for n, _ in results.objectives()] == ["accuracy", f"latency_ms@{PI}", f"latency_ms@{PIXEL}"]
    alone = {device: {r.id for r in results.front_records("accuracy", f"latency_ms@{device}")} for device in (PI, PIXEL)}
    assert alone[PI] != alone[PIXEL]
    front = results.front().set_index("id")
    assert set(front.index) == alone[PI] | alone[PIXEL]
    assert front.loc["baseline-prune-50", "devices"] == [PIXEL]
    assert front.loc["baseline-fp32", "devices"] == [PI, PIXEL]
    volumes = [results.hypervolume(device=device) for device in (PI, PIXEL)]
    assert results.hypervolume() == sum(volumes) / 2
    assert results.pick() == results.pick("knee", "accuracy", f"latency_ms@{PI}")


def test_each_devices_front_is_told_in_a_line(study):
    results = several(study)
    lines = front_summaries(results)
    assert len(lines) == 2
    assert lines[0].startswith(f"on {PI}: {len(results.front_records(device=PI))} points, knee {results.pick('knee', device=PI)}, hypervolume ")
    assert front_summaries(study()) == []


def test_the_spread_between_seeds_and_unstable_points_are_told(study):
    results = study()
    again = dataclasses.replace(results.record("0002"), id="0002-r1", replicate=1, report={"accuracy": Estimate(0.88, 0.86, 0.9)})
    failed = dataclasses.replace(results.record("0001"), id="0001-r1", replicate=1, status="diverged", reason="the loss was NaN", report={})
    lines = spread_lines(dataclasses.replace(results, replicates={"0002": (again,), "0001": (failed,)}))
    assert lines[0].startswith("between seeds: standard deviation accuracy 1.4 points, from 1 replicate of 1 point;")
    assert lines[1] == "0001 is unstable (!): replicate 1: diverged, the loss was NaN"
    assert spread_lines(results) == []


def test_ties_are_named_and_the_mark_explained():
    rows = [{"id": "0004", "tied": ["0002", "0001"]}, {"id": "0002", "tied": ["0001"]}, {"id": "0001", "tied": []}]
    (line,) = tied_lines(rows)
    assert line.startswith("~ is tied, no better")
    assert line.endswith("0004 with 0002 and 1 other, 0002 with 0001")
    assert tied_lines(rows[2:]) == []


def test_shares_of_techniques_are_told_where_recipes_differ_in_their_steps(study):
    results = study()
    front = [r for r in results.front_records() if r.baseline is None]
    assert technique_lines(results) == []  # all trials have the same steps
    one = dataclasses.replace(front[0], recipe=[*front[0].recipe, {"low_rank": {"rank": 0.5}}])
    (line,) = technique_lines(dataclasses.replace(results, records=tuple(one if r.id == one.id else r for r in results.records)))
    assert line.startswith(f"of the front's {len(front)} trials use: ")
    assert line.endswith(f"low_rank {1 / len(front):.0%}")
