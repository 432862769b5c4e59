"""Budgets end a search: over a pool that runs nothing but keeps two jobs under way, as Ray does."""

import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from evaluators.metric import Estimate
from search.ahead import Ahead
from search.budget import Budget, cost_of
from search.experiment import Experiment
from search.job import LATER
from search.ledger import Ledger
from search.progress import Progress
from search.record import StageRecord, Status, TrialRecord
from search.searching import Search
from search.settings import SearchSpec
from search.study import Study


def trial(number: int = 1, *, cached: str = "", status: Status = "ok", stages: str = "prune distill evaluate", seconds: float = 0.0) -> TrialRecord:
    names = stages.split()
    done = tuple(StageRecord(name, name, cached=name in cached.split(), seconds=1.0) for name in names)
    metrics = {name: Estimate.exact(0.5) for name in ("accuracy", "size_bytes")} if status == "ok" else {}
    return TrialRecord(f"{number:04d}", [], status, metrics=metrics, stages=done, seconds=seconds)


@pytest.mark.parametrize(
    ("record", "cost"),
    [
        (trial(), 1.0),
        (trial(cached="prune"), 1.0),
        (trial(cached="prune distill"), 0.1),
        (trial(cached="prune distill evaluate"), 0.0),
        (trial(stages="prune evaluate", cached="prune"), 1.0),
        (trial(stages="evaluate"), 1.0),
        (trial(stages="score evaluate", cached="evaluate"), 0.0),
        (replace(trial(status="stopped"), rung=0.25), 0.25),
        (replace(trial(status="stopped", cached="prune distill evaluate"), rung=0.25), 0.0),
        (trial(status="diverged", stages="prune"), 1.0),
        (trial(status="out-of-memory", stages=""), 1.0),
        (trial(status="infeasible", stages=""), 0.0),
    ],
)
def test_the_cost_of_a_trial_in_full_trainings(record: TrialRecord, cost: float) -> None:
    assert cost_of(record) == cost


def test_hours_are_of_the_whole_study() -> None:
    now = 1000.0
    spec = SearchSpec(hours=1)
    fresh = Budget(spec, [], 2, lambda: now)
    resumed = Budget(spec, [trial(seconds=3600), trial(seconds=1800)], 2, lambda: now)
    now += 899
    assert (fresh.state(0), resumed.state(0)) == ("open", "open")
    now += 1
    assert (fresh.state(0), resumed.state(0)) == ("open", "spent")
    now += 2700
    assert fresh.state(1) == "spent"


def test_a_cost_that_is_not_known_yet_is_waited_for() -> None:
    def budget(*records: TrialRecord) -> Budget:
        return Budget(SearchSpec(cost=3), records, 2)

    assert budget(trial(), trial()).state(0) == "open"
    assert budget(trial(), trial()).state(1) == "undecided", "all of the one under way may be found in the cache"
    assert budget(trial(), trial(), trial()).state(1) == "spent"
    assert budget(trial()).state(2) == "undecided"
    assert budget(trial(), trial(cached="prune distill")).state(1) == "undecided"
    assert budget(trial(), trial(), trial(cached="prune distill")).state(0) == "spent", "another may cost 1"


def test_trials_that_wait_have_cost_their_part() -> None:
    budget = Budget(SearchSpec(cost=3), [trial()], 2)
    assert budget.state(0, [0.25, 0.25]) == "open"
    assert budget.state(0, [0.25, 0.25, 0.6]) == "spent"
    assert budget.state(0, [0.25, 0.6], part=0.25) == "open", "going on from there costs what is left of its 1"
    counted = Budget(SearchSpec(trials=3), [trial()], 2)
    assert counted.state(1, [0.25]) == "spent"
    assert counted.state(1, [], part=0.25) == "open", "it was counted when it began"


def searched(folder: Path, pool: "TwoAtATime", budget: str, *, resume: bool = False) -> list[str]:
    """Ids of the trials with a record when a study's search has ended."""
    experiment = Experiment.load("quickstart", ["objectives=[accuracy, size_bytes]", "constraints=[]", "search.trials=null", budget])
    ledger = (Ledger.resume if resume else Ledger.create)(folder, experiment)
    baseline = TrialRecord("baseline-fp32", [], "ok", baseline="fp32", metrics=trial().metrics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.study.Budget", lambda *details, **more: Budget(*details, **more, clock=lambda: pool.now))
        patch.setattr("search.study.Proposals", Always)
        # How many run at a time must not depend on how fast a thread proposes.
        patch.setattr("search.study.Ahead", lambda propose, tell, _: Ahead(propose, tell, 0))
        study = Study(experiment, storage=folder.parent)
        for work in study._search(ledger, cast("Any", None), pool.workers, [baseline, *ledger.records()], Progress(None)):
            pool.run(cast("Search", work))
    assert ledger.pending() == []
    ledger.close()
    return [r.id for r in ledger.records()]


class TwoAtATime:
    """A pool whose trials end as ``outcomes`` say, the oldest first, one every ten minutes."""

    workers = 2

    def __init__(self, outcomes: Callable[[int], TrialRecord]) -> None:
        self.outcomes, self.now, self.most = outcomes, 0.0, 0

    def run(self, work: Search) -> None:
        running: deque[str] = deque()
        finished = False
        while running or not finished:
            job = work.next_job() if not finished and len(running) < self.workers else LATER
            finished = finished or job is None
            if job:
                running.append(job["id"])
                self.most = max(self.most, len(running))
            elif running:
                self.now += 600
                work.ended(self.outcomes(int(running.popleft())))
            else:
                time.sleep(0.001)  # the next proposal is being made


class Always:
    """Proposals without end."""

    screened = 0
    known = None

    def __init__(self, *details: object) -> None:
        self._count = itertools.count()

    def next(self) -> tuple[dict[str, Any], list[Any]]:
        return {"x": next(self._count)}, []

    def tell(self, record: TrialRecord, expected: object = None) -> None:
        """Learn nothing."""


@pytest.mark.parametrize(
    ("budget", "outcomes", "ended"),
    [
        ("search.trials=5", trial, 5),
        ("search.trials=5", lambda i: trial(i, status="diverged"), 5),
        ("search.hours=1", trial, 7),  # two under way, one ending every ten minutes: the seventh starts at 50 minutes
        ("search.cost=4", trial, 4),
        ("search.cost=4", lambda i: trial(i, status="diverged", stages=""), 4),
        ("search.cost=4", lambda i: trial(i, cached="prune distill" if i % 2 else ""), 6),
        ("search.cost=1", trial, 1),
    ],
)
def test_each_budget_ends_a_search(tmp_path: Path, budget: str, outcomes: Callable[[int], TrialRecord], ended: int) -> None:
    pool = TwoAtATime(outcomes)
    assert searched(tmp_path / "mine", pool, budget) == [f"{i + 1:04d}" for i in range(ended)]
    assert pool.most == min(2, ended)


def test_a_resumed_search_has_what_is_left_of_its_budget(tmp_path: Path) -> None:
    for budget, ended in (("search.cost=3", 3), ("search.cost=3", 3), ("search.cost=5", 5)):
        assert len(searched(tmp_path / "mine", TwoAtATime(trial), budget, resume=(tmp_path / "mine").exists())) == ended
