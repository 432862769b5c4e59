"""The search's own decisions, over a pool that trains nothing: a trial's quality at a third of its training and at its end follow from its point."""

import dataclasses
import json
from collections import deque
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from evaluators.metric import Estimate, Metric
from search.ahead import Ahead
from search.budget import Budget
from search.experiment import Experiment
from search.ledger import Ledger
from search.progress import Progress
from search.promotion import Promotion
from search.record import StageRecord, TrialRecord
from search.running_front import RunningFront
from search.searching import Search

RUNG = 1 / 3
EXPERIMENT = ["objectives=[accuracy, size_bytes]", "constraints=[]"]


def metrics(size: float, accuracy: float) -> dict[str, Estimate]:
    return {"accuracy": Estimate.exact(accuracy), "size_bytes": Estimate.exact(size)}


class Sizes:
    """Proposals of random sizes; every third one is poor for its size, which shows at a third of its training."""

    screened, known, sign = 0, None, 1
    quality = ("accuracy", Metric("accuracy", "", "max", "observed"))

    def __init__(self, count: int = 1000) -> None:
        rng = np.random.default_rng(0)
        self.points = iter([{"size": float(rng.uniform(1e3, 1e5)), "poor": i % 3 == 2} for i in range(count)])
        self.told: dict[str, tuple[float, float] | None] = {}

    def next(self) -> tuple[dict[str, Any], list[Any]] | None:
        point = next(self.points, None)
        return None if point is None else (point, [{"distill": {"steps": 3, "alpha": 0.5 + point["size"] / 1e6}}])

    def tell(self, record: TrialRecord, expected: tuple[float, float] | None = None) -> None:
        self.told[record.id] = expected if record.status == "stopped" else None

    @staticmethod
    def coordinates(found: dict[str, Estimate], observed: dict[str, float] | None = None) -> tuple[list[float], float]:
        return [found["size_bytes"].value], found["accuracy"].value if observed is None else observed["accuracy"]


def run(job: dict[str, Any]) -> TrialRecord:
    """As a worker does: up to the next rung."""
    before = TrialRecord.from_json(job["part"]) if job["part"] else None
    rung = next(r for r in job["rungs"] if r > (before.rung if before else 0))
    size, poor = job["values"]["size"], job["values"]["poor"]
    end = 0.95 - 2e3 / size - 0.3 * poor
    found = metrics(size, end if rung == 1 else end - 0.1)
    curve = {str(rung): {"accuracy": end - 0.1}} if rung < 1 else (before.curve if before else {})
    stage = StageRecord("distill", f"{job['id']} {rung}", cached=False, seconds=1.0)
    stages = (*(before.stages if before else ()), stage)
    return TrialRecord(job["id"], job["recipe"], "ok", metrics=found, values=job["values"], rung=rung, curve=curve, stages=stages)


class Pool:
    """Two workers; what they do takes no time. ``trained`` counts trainings, parts as parts."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.trained, self.left = 0.0, stop_after

    def run(self, work: Search) -> None:
        running: deque[dict[str, Any]] = deque()
        over = False
        while running or not over:
            job = work.next_job() if not over and len(running) < 2 else {}
            over = over or job is None
            if job:
                running.append(job)
                continue
            if not running:
                assert over, "asked to wait with nothing under way"
                continue
            job = running.popleft()
            while True:
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left -= 1
                record = run(job)
                self.trained += record.rung - (TrialRecord.from_json(job["part"]).rung if job["part"] else 0)
                job = {**job, "part": record.to_json()}
                if record.rung == 1:
                    work.ended(record)
                elif work.reached(record):
                    continue
                else:
                    work.paused(record)
                break


def search(folder: Path, budget: str, pool: Pool, *, promoting: bool = True, proposals: Sizes | None = None, resume: bool = False) -> list[TrialRecord]:
    experiment = Experiment.load("quickstart", [*EXPERIMENT, "search.trials=null", budget])
    ledger = (Ledger.resume if resume else Ledger.create)(folder, experiment)
    try:
        front = RunningFront(experiment)
        front.add(TrialRecord("baseline-fp32", [], "ok", baseline="fp32", metrics=metrics(1e5, 0.95)))
        proposals = proposals or Sizes()
        records = ledger.records()
        promotion = Promotion([RUNG]) if promoting else None
        ahead = Ahead(proposals.next, proposals.tell, 0)
        work = Search(cast("Any", proposals), ahead, Budget(experiment.search, records, 2), ledger, front, promotion, Progress(None))
        work.take_over(records, ledger.pending())
        pool.run(work)
        return list(ledger.records())
    finally:
        ledger.close()


def test_poor_trials_are_stopped_early_and_all_others_train_on(tmp_path: Path) -> None:
    pool, proposals = Pool(), Sizes()
    records = search(tmp_path / "a", "search.trials=60", pool, proposals=proposals)
    assert [r.id for r in records] == [f"{i + 1:04d}" for i in range(60)]
    stopped = [r for r in records if r.status == "stopped"]
    assert {r.status for r in records} == {"ok", "stopped"}
    assert all(r.values["poor"] for r in stopped)
    assert sum(r.values["poor"] for r in records if r.status == "ok") <= 5, "poor ones train on only while the rung is being learned"
    assert pool.trained == pytest.approx(60 - (1 - RUNG) * len(stopped))
    assert all(r.rung == RUNG and "after 33% of its training" in r.reason for r in stopped)
    assert all(r.rung == 1 and str(RUNG) in r.curve for r in records if r.status == "ok")
    truth = {r.id: 0.65 - 2e3 / r.values["size"] for r in stopped}
    found = [proposals.told[trial] for trial in truth]
    assert all(expected is not None and abs(expected[0] - end) < 0.1 for expected, end in zip(found, truth.values(), strict=True))


def test_without_rungs_every_trial_trains_to_its_end(tmp_path: Path) -> None:
    pool = Pool()
    records = search(tmp_path / "a", "search.trials=30", pool, promoting=False)
    assert pool.trained == 30
    assert {r.status for r in records} == {"ok"}


def test_a_budget_in_trainings_buys_more_trials_with_rungs_and_is_kept(tmp_path: Path) -> None:
    counts = []
    for promoting in (True, False):
        pool = Pool()
        records = search(tmp_path / str(promoting), "search.cost=40", pool, promoting=promoting)
        assert pool.trained <= 40 + 1e-9
        assert pool.trained > 38
        counts.append(len(records))
    assert counts[0] > counts[1] + 4


def test_a_space_that_ends_stops_what_waits(tmp_path: Path) -> None:
    records = search(tmp_path / "a", "search.trials=500", Pool(), proposals=Sizes(40))
    assert len(records) == 40
    assert any(r.status == "stopped" for r in records)


def test_a_driver_that_is_lost_loses_nothing_that_was_trained(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "a", "search.trials=60", Pool(stop_after=60))
    before = {p.stem: p.read_text() for p in (tmp_path / "a" / "records").glob("*.json")}
    waiting = [json.loads(p.read_text()) for p in (tmp_path / "a" / "pending").glob("*.json")]
    assert any(job["part"] for job in waiting)
    pool, proposals = Pool(), Sizes()
    for _ in range(len(before) + len(waiting)):
        next(proposals.points)
    records = search(tmp_path / "a", "search.trials=60", pool, proposals=proposals, resume=True)
    assert [r.id for r in records] == [f"{i + 1:04d}" for i in range(60)]
    assert all(dataclasses.asdict(r) == dataclasses.asdict(TrialRecord.from_json(before[r.id])) for r in records if r.id in before)
    again = [r for r in records if r.id in {job["id"] for job in waiting if job["part"]}]
    assert all(len({s.key for s in r.stages}) == len(r.stages) for r in again)
