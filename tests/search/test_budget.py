"""Budgets end a search: over a pool that runs nothing but keeps two jobs under way, as Ray does."""

import itertools
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from evaluators.metric import Estimate
from search.budget import Budget, cost_of
from search.experiment import Experiment
from search.ledger import Ledger
from search.progress import Progress
from search.record import StageRecord, Status, TrialRecord
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
    assert (fresh.state([], 0), resumed.state([], 0)) == ("open", "open")
    now += 1
    assert (fresh.state([], 0), resumed.state([], 0)) == ("open", "spent")
    now += 2700
    assert fresh.state([], 1) == "spent"


def test_a_cost_that_is_not_known_yet_is_waited_for() -> None:
    budget = Budget(SearchSpec(cost=3), [], 2)
    assert budget.state([trial(), trial()], 0) == "open"
    assert budget.state([trial(), trial()], 1) == "undecided"
    assert budget.state([trial(), trial(), trial(cached="prune distill")], 0) == "open"
    assert budget.state([trial(), trial(), trial()], 1) == "spent"


def searched(folder: Path, pool: "TwoAtATime", budget: str, *, resume: bool = False) -> list[str]:
    """Ids of the trials with a record when a study's search has ended."""
    experiment = Experiment.load("quickstart", ["objectives=[accuracy, size_bytes]", "constraints=[]", "search.trials=null", budget])
    ledger = (Ledger.resume if resume else Ledger.create)(folder, experiment)
    baseline = TrialRecord("baseline-fp32", [], "ok", baseline="fp32", metrics=trial().metrics)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.study.Budget", lambda *details: Budget(*details, clock=lambda: pool.now))
        patch.setattr("search.study.Proposals", Always)
        study = Study(experiment, storage=folder.parent)
        study._search(ledger, cast("Any", None), cast("Any", pool), [baseline, *ledger.records()], Progress(None))
    assert ledger.pending() == []
    ledger.close()
    return [r.id for r in ledger.records()]


class TwoAtATime:
    """A pool whose trials end as ``outcomes`` say, the oldest first, one every ten minutes."""

    workers = 2
    LATER: ClassVar[dict[str, Any]] = {}

    def __init__(self, outcomes: Callable[[int], TrialRecord]) -> None:
        self.outcomes, self.now, self.most = outcomes, 0.0, 0

    def run(self, next_job: Callable[[], Any], on_record: Callable[[TrialRecord], None]) -> None:
        running: deque[str] = deque()
        finished = False
        while running or not finished:
            job = next_job() if not finished and len(running) < self.workers else self.LATER
            finished = finished or job is None
            if job:
                running.append(job["id"])
                self.most = max(self.most, len(running))
            elif running:
                self.now += 600
                on_record(self.outcomes(int(running.popleft())))
            else:
                assert finished, "asked to wait with nothing under way"


class Always:
    """Proposals without end."""

    screened = 0

    def __init__(self, *details: object) -> None:
        self._count = itertools.count()

    def next(self) -> tuple[dict[str, Any], list[Any]]:
        return {"x": next(self._count)}, []

    def tell(self, record: TrialRecord) -> None:
        """Learn nothing."""


@pytest.mark.parametrize(
    ("budget", "outcomes", "ended"),
    [
        ("search.trials=5", trial, 5),
        ("search.trials=5", lambda i: trial(i, status="diverged"), 5),
        ("search.hours=1", trial, 7),  # two under way, one ending every ten minutes: the seventh starts at 50 minutes
        ("search.cost=4", trial, 4),
        ("search.cost=4", lambda i: trial(i, status="diverged", stages=""), 4),
        ("search.cost=4", lambda i: trial(i, cached="prune distill" if i % 2 else ""), 8),
        ("search.cost=0.5", trial, 1),
    ],
)
def test_each_budget_ends_a_search(tmp_path: Path, budget: str, outcomes: Callable[[int], TrialRecord], ended: int) -> None:
    pool = TwoAtATime(outcomes)
    assert searched(tmp_path / "mine", pool, budget) == [f"{i + 1:04d}" for i in range(ended)]
    assert pool.most == min(2, ended)


def test_a_resumed_search_has_what_is_left_of_its_budget(tmp_path: Path) -> None:
    for budget, ended in (("search.cost=3", 3), ("search.cost=3", 3), ("search.cost=5", 5)):
        assert len(searched(tmp_path / "mine", TwoAtATime(trial), budget, resume=(tmp_path / "mine").exists())) == ended
