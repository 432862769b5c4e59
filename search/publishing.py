"""Publishing a front: its points on ``report``, and those that were trained once more with other seeds, within the time that is left."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from compressors.recipe import Recipe
from search.in_turn import InTurn
from search.job import new_job
from search.ledger import Ledger
from search.pace import Pace
from search.record import TrialRecord
from search.replicates import replicate_id
from search.results import Results, Split

__all__ = ["Deadline", "publish", "published_records"]


class Deadline(NamedTuple):
    """When publishing has to be over, on ``clock``; what a training takes; workers."""

    end: float | None
    pace: Pace
    clock: Callable[[], float] = time.monotonic

    @property
    def short(self) -> bool:
        """Whether another training would end too late."""
        return self.end is not None and self.clock() + self.pace.training > self.end


def published_records(results: Results, split: Split) -> tuple[TrialRecord, ...]:
    """The union of the fronts: those of the experiment, and the objectives moved to each device that it lists."""
    found = {r.id: r for r in results.front_records(split=split)}
    for device in results.experiment.devices:
        found |= {r.id: r for r in results.front_records(device=device, split=split)}
    return tuple(found.values())


def publish(load: Callable[[], Results], ledger: Ledger, line: Callable[[str], None], deadline: Deadline) -> Iterator[InTurn]:
    """What there is to run, a queue at a time: evaluate on ``report`` what is on a front and was not yet, then train its members again with other seeds.

    Args:
        load: the study's results as they are now.
        ledger: of the study.
        line: receives progress, a plain line at a time.
        deadline: no training starts that would end later; evaluations, for which the search has left time, always run.
    """
    yield from _evaluate(load(), ledger, line)
    yield from _replicate(load(), ledger, line, deadline)


def _evaluate(results: Results, ledger: Ledger, line: Callable[[str], None]) -> Iterator[InTurn]:
    baselines = (r for r in results.records if r.baseline and r.status == "ok")
    left = [r for r in {r.id: r for r in (*published_records(results, "search"), *baselines)}.values() if not r.report]
    if not left:
        return
    line(f"publishing {len(left)} points (front and baselines) on the report split")
    quality = {m.name for m in results.experiment.names.quality}

    def ended(record: TrialRecord) -> None:
        if record.status == "ok":
            ledger.publish(record.id, {name: value for name, value in record.metrics.items() if name in quality}, record.examples)
        else:
            line(f"{record.id} could not be evaluated on report: {record.reason.splitlines()[-1]}")

    yield InTurn([new_job(r.id, r.recipe, baseline=r.baseline, values=r.values, split="report") for r in left], ended)


def _replicate(results: Results, ledger: Ledger, line: Callable[[str], None], deadline: Deadline) -> Iterator[InTurn]:
    wanted = results.experiment.search.replicates
    members = [r for r in published_records(results, "report") if r.report and wanted and trains(r.recipe)]
    tried = {trial: {r.replicate for r in others} for trial, others in results.replicates.items()}
    # Every member's first before anybody's second.
    todo = [(r, n) for n in range(1, wanted + 1) for r in members if n not in tried.get(r.id, ())]
    if not todo:
        return
    line(f"training {len(todo)} replicates of {len(members)} points of the front with other seeds")
    quality = {m.name for m in results.experiment.names.quality}
    numbers = {replicate_id(r.id, n): n for r, n in todo}

    def ended(record: TrialRecord) -> None:
        report = {name: value for name, value in record.metrics.items() if name in quality}
        # A worker that died says nothing of its job.
        ledger.replicate(dataclasses.replace(record, replicate=numbers[record.id]), report)
        if record.status != "ok":
            line(f"{record.id}: {record.status}, {(record.reason.strip().splitlines() or [''])[-1]}")

    jobs = [new_job(replicate_id(r.id, n), r.recipe, values=r.values, split="report", replicate=n) for r, n in todo]
    work = InTurn(jobs, ended, over=lambda: deadline.short)
    yield work
    if work.left:
        ids = ", ".join(job["id"] for job in work.left[:5]) + (", ..." if len(work.left) > 5 else "")
        line(f"time is short: {len(work.left)} of {len(todo)} replicates were left out: {ids}")


def trains(recipe: list[dict[str, object]]) -> bool:
    """Whether seeds make a difference to a recipe."""
    return any(step.stochastic for step in Recipe.from_plain(recipe).steps)
