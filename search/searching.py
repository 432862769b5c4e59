"""The search itself: what runs next, which trials train on, and when the budget ends it. Knows nothing of how jobs are run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from compressors.graph.stored import graph_json
from compressors.recipe import Recipe
from compressors.sizing import Sizing
from search.ahead import Ahead
from search.budget import Budget
from search.figures import figure
from search.job import LATER, Job, new_job
from search.ledger import Ledger
from search.progress import Progress
from search.promotion import Promotion
from search.proposals import Proposals
from search.record import TrialRecord
from search.running_front import RunningFront
from search.stages import goes_on

__all__ = ["Search"]

Proposal = tuple[dict[str, Any], list[dict[str, Any]]]


class Search:
    """Hands out jobs and takes in what came of them; called from one thread.

    Args:
        proposals: what to try; asked and told by ``ahead`` alone.
        ahead: of ``proposals.next`` and ``proposals.tell``.
        budget: when to end.
        ledger: where jobs and records are written.
        front: of the records so far.
        promotion: None where every trial trains to its end.
        progress: is told.
    """

    def __init__(
        self,
        proposals: Proposals,
        ahead: Ahead[Proposal],
        budget: Budget,
        ledger: Ledger,
        front: RunningFront,
        promotion: Promotion | None,
        progress: Progress,
    ) -> None:
        self._proposals, self._ahead, self._budget = proposals, ahead, budget
        self._ledger, self._front, self._promotion, self._progress = ledger, front, promotion, progress
        self._left: list[Job] = []
        self._running: dict[str, Job] = {}
        self._paused: dict[str, tuple[Job, TrialRecord]] = {}
        self._next = 1
        self._done = self._here = self._failed = 0

    def take_over(self, records: Sequence[TrialRecord], jobs: Iterable[Job]) -> None:
        """What an earlier run of the study has ended, and what it left under way."""
        for record in sorted(records, key=lambda r: r.id):
            self._learn(record)
        self._left = list(jobs)
        self._next = 1 + max([int(r.id) for r in records if r.id.isdigit()] + [int(job["id"]) for job in self._left], default=0)

    def next_job(self) -> Job | None:
        """The next job; ``LATER`` where that depends on what is under way; None when all is done."""
        job = self._left.pop(0) if self._left else self._chosen()
        if job:
            self._running[job["id"]] = job
            self._ledger.start(job)
        return job

    def reached(self, record: TrialRecord) -> bool:
        """Whether a trial that has run a part of its training goes on at once."""
        if self._promotion is None:
            return True
        self._promotion.reached(record.id, record.rung, *self._proposals.coordinates(record.metrics))
        return self._promotion.promising(record.id)

    def paused(self, record: TrialRecord) -> None:
        """A trial that did not go on has given its worker back."""
        job = {**self._running.pop(record.id), "part": record.to_json()}
        self._paused[record.id] = job, record
        self._ledger.start(job)

    def ended(self, record: TrialRecord) -> None:
        """A trial has its terminal record."""
        self._running.pop(record.id, None)
        if "input_size" in record.candidate:
            self._ledger.keep_graph(Sizing.from_plain(record.candidate["input_size"]).label, lambda: graph_json(self._proposals.graph(record)))
        self._ledger.finish(record)
        self._budget.add(record)
        self._here += 1
        self._learn(record)
        self._progress.update(self._done, self._here, self._front.size, self._front.hypervolume, self._failed)

    def _learn(self, record: TrialRecord) -> None:
        self._done += not record.origin
        self._failed += record.status not in ("ok", "stopped")
        expected = None
        if self._promotion is not None:
            for rung, metrics in record.curve.items():
                # Seen already, unless an earlier run of the study ended it.
                self._promotion.reached(record.id, float(rung), *self._proposals.coordinates(record.metrics, metrics))
            found = self._promotion.expected(record.id)
            expected = None if found is None else (self._proposals.sign * found[0], found[1])
            if record.status == "ok" and record.rung >= 1:
                self._promotion.ended(record.id, *self._proposals.coordinates(record.metrics))
            self._promotion.dropped(record.id)
        self._ahead.tell(record, expected)
        self._front.add(record)

    def _chosen(self) -> Job | None:
        parts = {trial: record.rung for trial, (_, record) in self._paused.items()}
        again = self._promotion.best(parts) if self._promotion is not None and parts else None
        running = len(self._running)
        if again is not None and self._budget.state(running, [p for trial, p in parts.items() if trial != again], part=parts[again]) == "open":
            return self._paused.pop(again)[0]
        state = self._budget.state(running, list(parts.values()))
        if state == "open":
            proposal = self._ahead.take()
            if proposal:
                return self._new(*proposal)
            if proposal is not None:
                return LATER
        elif state == "undecided":
            return LATER
        if running and parts:
            # What is under way may yet move the front, or show that a rung says little.
            return LATER
        self._stop()
        if state == "spent" and parts and self._budget.state(running) == "open":
            return self._chosen()
        return None

    def _new(self, values: dict[str, Any], recipe: list[dict[str, Any]]) -> Job:
        self._next += 1
        rungs = (*self._promotion.rungs, 1.0) if self._promotion is not None and goes_on(Recipe.from_plain(recipe)) else (1.0,)
        return new_job(f"{self._next - 1:04d}", recipe, values=values, rungs=rungs)

    def _stop(self) -> None:
        """Those that wait do not go on."""
        assert self._promotion is not None or not self._paused
        for _, record in list(self._paused.values()):
            found = self._promotion.expected(record.id) if self._promotion is not None else None
            name, metric = self._proposals.quality
            came = f", {name} {figure(metric, self._proposals.sign * found[0])} ± {figure(metric, found[1])} was to be expected" if found else ""
            reason = f"after {record.rung:.0%} of its training it could not be expected to reach the front{came}"
            self._paused.pop(record.id)
            self.ended(dataclasses.replace(record, status="stopped", reason=reason))
