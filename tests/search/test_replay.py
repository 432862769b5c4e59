import dataclasses

import pytest

from compressors.errors import UserError
from evaluators.metric import Estimate
from search.experiment import Experiment
from search.replay import Recorded, differences, recorded_trials, with_budget_of


def test_recorded_proposals_come_in_their_order_without_those_that_are_done(study):
    results = study()
    experiment = Experiment.load("quickstart")
    records = recorded_trials("digits", results.folder.parent, experiment)
    assert [r.id for r in records] == ["0000", "0001", "0002", "0003", "0004", "0005"]
    proposals = type("Proposals", (), {"tell": lambda *_: None})()
    recorded = Recorded(proposals, records, {"0000", "0001", "0003"})
    assert [recorded.next()[1] for _ in range(3)] == [results.record(i).recipe for i in ("0002", "0004", "0005")]
    assert recorded.next() is None
    assert with_budget_of(experiment, records).search.trials == 6


def test_a_replay_of_another_space_or_of_nothing_is_refused(study):
    results = study()
    other = Experiment.load("quickstart", ["recipe=[{prune: {ratio: {channels: {uniform: [0.1, 0.2]}}}}]"])
    with pytest.raises(UserError, match=r"--replay: study 'digits' searched another space: its recipe differs"):
        recorded_trials("digits", results.folder.parent, other)
    with pytest.raises(UserError, match="no study 'none'"):
        recorded_trials("none", results.folder.parent, other)
    for path in [*(results.folder / "records").glob("0*.json"), *(results.folder / "reports").glob("0*.json")]:
        path.unlink()
    with pytest.raises(UserError, match="'digits' has no trial that could be repeated"):
        recorded_trials("digits", results.folder.parent, Experiment.load("quickstart"))


def test_what_came_out_differently_is_named(study):
    before = [r for r in study().records if not r.baseline]
    assert differences(before, before) == []
    changed = {**before[1].metrics, "accuracy": Estimate(0.9501, 0.9, 1.0)}
    after = [before[0], dataclasses.replace(before[1], metrics=changed), dataclasses.replace(before[2], status="diverged"), *before[4:]]
    assert differences(before, after) == ["0001: accuracy 0.95 -> 0.9501", "0002: ok -> diverged", "0003: was not repeated"]
