"""Works in a row on the same workers."""

import pytest

from search.in_turn import InTurn
from search.job import LATER, new_job
from search.phases import Phases
from search.record import TrialRecord


def ended(work, trial):
    work.ended(TrialRecord(trial, [], "ok"))


def test_a_phase_begins_when_every_job_of_the_one_before_has_ended():
    seen = []

    def works():
        yield InTurn([new_job("a1", []), new_job("a2", [])], seen.append)
        yield InTurn([], seen.append)
        assert [r.id for r in seen] == ["a2", "a1"]
        yield InTurn([new_job("b1", [])], seen.append)

    work = Phases(works())
    assert [work.next_job()["id"], work.next_job()["id"]] == ["a1", "a2"]
    assert work.next_job() == LATER
    ended(work, "a2")
    assert work.next_job() == LATER, "a1 runs"
    ended(work, "a1")
    assert work.next_job()["id"] == "b1"
    ended(work, "b1")
    assert work.next_job() is None


def test_a_mistake_between_two_phases_ends_them():
    def works():
        yield InTurn([], print)
        raise ValueError("the baseline failed")

    with pytest.raises(ValueError, match="the baseline failed"):
        Phases(works()).next_job()
