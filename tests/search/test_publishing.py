import dataclasses
from types import SimpleNamespace

import pytest

from evaluators.metric import Estimate
from search.experiment import Experiment
from search.pace import Pace
from search.publishing import Deadline, publish, published_records
from search.record import StageRecord, TrialRecord
from search.results import Results

TRAINS = [{"prune": {"ratio": {"channels": 0.4}}}, {"distill": {"steps": 8}}]
PLAIN = [{"prune": {"ratio": {"channels": 0.3}}}]


class Ledger:
    def __init__(self):
        self.published, self.replicates = {}, {}

    def publish(self, trial, report, examples):
        self.published[trial] = report

    def replicate(self, record, report):
        self.replicates[record.id] = dataclasses.replace(record, report=report)


class Pool:
    """Runs every job at once; those of ids in ``failing`` diverge."""

    workers = 2

    def __init__(self, failing=(), after=lambda: None):
        self.failing, self.jobs, self.after = failing, [], after

    def run(self, work):
        while (job := work.next_job()) is not None:
            self.jobs.append(job)
            record = TrialRecord(job["id"], job["recipe"], "ok", metrics={"accuracy": Estimate(0.9, 0.88, 0.92)}, replicate=job["replicate"])
            if job["id"] in self.failing:
                record = dataclasses.replace(record, status="diverged", reason="the loss was NaN", metrics={})
            self.after()
            work.ended(record)


@pytest.fixture
def published(study):
    """A study whose front was searched: two members that train, one that does not; runs ``publish``."""

    def run(pool, deadline=None, replicates=1):
        before = study()
        recipes = {"0001": TRAINS, "0002": TRAINS, "0000": PLAIN}
        records = tuple(dataclasses.replace(r, recipe=recipes.get(r.id, r.recipe)) for r in before.records)
        experiment = Experiment.load("quickstart", ["objectives=[accuracy, size_bytes]", f"search.replicates={replicates}", "constraints=[]"])
        ledger, lines = Ledger(), []

        def load():
            found = tuple(dataclasses.replace(r, report=ledger.published.get(r.id, r.report)) for r in records)
            others = {trial: tuple(r for r in ledger.replicates.values() if r.id.startswith(f"{trial}-r")) for trial in ("0001", "0002")}
            return Results(experiment, found, replicates={trial: rs for trial, rs in others.items() if rs})

        for work in publish(load, ledger, lines.append, deadline or Deadline(None, Pace())):
            pool.run(work)
        return ledger, lines, load()

    return run


def test_members_that_train_are_trained_again_with_other_seeds(published):
    pool = Pool()
    ledger, _, results = published(pool, replicates=2)
    again = [(job["id"], job["replicate"], job["split"]) for job in pool.jobs if job["replicate"]]
    assert set(again) == {(f"{trial}-r{n}", n, "report") for trial in ("0001", "0002") for n in (1, 2)}
    assert [n for _, n, _ in again] == [1, 1, 2, 2], "every member's first before anybody's second"
    assert results.seeds(results.record("0001")).count == 3
    assert set(ledger.published) <= {r.id for r in results.records}


def test_no_replicates_where_they_are_switched_off(published):
    pool = Pool()
    published(pool, replicates=0)
    assert not any(job["replicate"] for job in pool.jobs)


def test_a_replicate_that_fails_is_kept_and_told(published):
    ledger, lines, results = published(Pool(failing=("0002-r1",)))
    assert ledger.replicates["0002-r1"].status == "diverged"
    assert "0002-r1: diverged, the loss was NaN" in lines
    assert results.front().set_index("id").loc["0002", "unstable"] == ["replicate 1: diverged, the loss was NaN"]


def test_what_would_end_too_late_is_left_out_and_said(published):
    pace, clock = Pace(), SimpleNamespace(now=0.0)
    for i in range(10):
        pace.add(TrialRecord(str(i), TRAINS, "ok", stages=(StageRecord("distill", "a", False, 9.0), StageRecord("evaluate", "b", False, 1.0)), seconds=10.0))

    def worked():
        clock.now += 10

    pool = Pool(after=worked)
    _, lines, _ = published(pool, Deadline(35.0, pace, lambda: clock.now), replicates=2)
    done = [job["id"] for job in pool.jobs if job["replicate"]]
    assert 0 < len(done) < 4
    left = [f"{trial}-r{n}" for n in (1, 2) for trial in ("0001", "0002") if f"{trial}-r{n}" not in done]
    assert any(line.startswith(f"time is short: {len(left)} of 4 replicates were left out") for line in lines)


def test_what_is_on_the_front_of_any_listed_device_is_published(study):
    results = study()
    slow = dict(results.record("0003").metrics)
    slow["latency_ms@pixel-7/onnxruntime"] = Estimate(0.001, 0.001, 0.001)
    records = tuple(dataclasses.replace(r, metrics=slow) if r.id == "0003" else r for r in results.records)
    results = dataclasses.replace(results, records=records)
    assert "0003" not in {r.id for r in results.front_records("accuracy", "latency_ms@raspberry-pi-5", split="search")}
    assert "0003" in {r.id for r in published_records(results, "search")}
