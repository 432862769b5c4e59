"""A study repeated: the recorded proposals in their order, whatever algorithm made them, and which metrics came out differently."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from compressors.errors import UserError
from search.experiment import Experiment
from search.proposals import Proposals
from search.record import TrialRecord
from search.study_files import EXPERIMENT, find_study, read_records

__all__ = ["Recorded", "differences", "recorded_trials", "with_budget_of"]


def recorded_trials(study: str, storage: str | Path, experiment: Experiment) -> tuple[TrialRecord, ...]:
    """The proposed trials of a study, in the order in which they were proposed.

    Raises:
        UserError: no such study, one of another space, or one without trials.
    """
    folder = find_study(study, storage)
    theirs = Experiment.frozen(folder / EXPERIMENT)
    if theirs.to_plain()["recipe"] != experiment.to_plain()["recipe"]:
        raise UserError(f"--replay: study {folder.name!r} searched another space: its recipe differs; replay it with its own experiment, {folder / EXPERIMENT}")
    found = [r for r in read_records(folder) if r.baseline is None and not r.origin]
    if not found:
        raise UserError(f"--replay: study {folder.name!r} has no trial that could be repeated")
    return tuple(sorted(found, key=lambda r: r.id))


def with_budget_of(experiment: Experiment, records: Sequence[TrialRecord]) -> Experiment:
    """The experiment with a budget that is just enough to repeat them."""
    search = experiment.search.model_copy(update={"trials": len(records), "hours": None, "cost": None})
    return Experiment.model_construct(**{**{name: getattr(experiment, name) for name in Experiment.model_fields}, "search": search})


class Recorded:
    """Hands out recorded proposals, and passes on to ``proposals`` what is told.

    Args:
        proposals: of the experiment; learns, but is never asked.
        records: to repeat.
        done: ids that have ended or are under way.
    """

    def __init__(self, proposals: Proposals, records: Iterable[TrialRecord], done: Container[str]) -> None:
        self._left = [(r.values, r.recipe) for r in records if r.id not in done]
        self.tell = proposals.tell

    def next(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """The next point and its plain recipe; None after the last."""
        return self._left.pop(0) if self._left else None


def differences(before: Iterable[TrialRecord], after: Iterable[TrialRecord]) -> list[str]:
    """Which metrics of which trials differ, a line each; nothing where all are equal to the last digit."""
    again = {r.id: r for r in after}
    lines = []
    for record in before:
        now = again.get(record.id)
        if now is None:
            lines.append(f"{record.id}: was not repeated")
        elif now.status != record.status:
            lines.append(f"{record.id}: {record.status} -> {now.status}")
        else:
            names = [n for n in record.metrics if n in now.metrics and record.metrics[n].value != now.metrics[n].value]
            lines += [f"{record.id}: {n} {record.metrics[n].value:.6g} -> {now.metrics[n].value:.6g}" for n in names]
    return lines
