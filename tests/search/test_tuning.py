"""What becomes of jobs whose workers are lost in every attempt."""

import pytest

from search.job import new_job
from search.tuning import Jobs


class Work:
    def __init__(self):
        self.jobs, self.records = [new_job("0001", [])], []

    def next_job(self):
        return self.jobs.pop()

    def reached(self, record):
        return True

    def paused(self, record):
        raise AssertionError

    def ended(self, record):
        self.records.append(record)


@pytest.mark.parametrize(
    ("said", "status", "reason"),
    [
        ("The actor died unexpectedly before finishing this task.", "out-of-memory", "killed without a word in each of 3 attempts"),
        ("The actor died because its node has died. Node Id: 1234", "interrupted", "the node of its worker was lost in the last of 3 attempts"),
        ("Traceback (most recent call last):\n  KeyError: 'a bug'", "error", "KeyError: 'a bug'"),
    ],
)
def test_the_record_says_what_was_lost(said, status, reason):
    work = Work()
    jobs = Jobs(work)
    jobs.suggest("trial")
    jobs.lost("trial")
    jobs.lost("trial")
    jobs.failed("trial", said)
    (record,) = work.records
    assert (record.id, record.status, record.attempts) == ("0001", status, 3)
    assert reason in record.reason


def test_a_worker_without_a_job_waits_and_asks_again():
    work = Work()
    work.jobs = [{}, new_job("0001", [])]
    work.jobs.reverse()
    jobs = Jobs(work)
    idle = jobs.suggest("waits")
    assert 0 < idle["idle"] <= 10
    jobs.on_trial_complete("waits", {"done": True})
    jobs.failed("waits", "The actor died unexpectedly before finishing this task.")
    assert jobs.suggest("trial")["id"] == "0001"
    assert work.records == []
