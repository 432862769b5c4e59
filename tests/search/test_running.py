"""Workers that start slowly."""

import os
import time
from pathlib import Path

import pytest
from ray import tune

from search.cache import Cache
from search.cluster import connected
from search.job import new_job
from search.record import TrialRecord
from search.resources import TrialResources
from search.running import Pool

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray warns about its own internals

_FIRST, _JOBS = 3, 60


class Late(tune.Trainable):
    """The second worker is not ready before the first has done some jobs."""

    def setup(self, config, **_):
        self.folder = Path(config["values"]["folder"])
        try:
            (self.folder / "first").touch(exist_ok=False)
        except FileExistsError:
            while len(list(self.folder.iterdir())) <= _FIRST:
                time.sleep(0.05)
        self.job = config

    def reset_config(self, new_config):
        self.job = new_config
        return True

    def step(self):
        time.sleep(0.1)
        (self.folder / self.job["id"]).touch()
        record = TrialRecord(self.job["id"], [], "ok", values={"worker": os.getpid()})
        return {"record": record.to_json(), "done": True}


class UntilBoth:
    """Jobs until two workers have had one."""

    def __init__(self, folder):
        self.folder, self.given, self.workers = str(folder), 0, set()

    def next_job(self):
        if len(self.workers) == 2 or self.given == _JOBS:
            return None
        self.given += 1
        return new_job(f"{self.given:04d}", [], values={"folder": self.folder})

    def reached(self, record):
        return True

    def paused(self, record):
        raise AssertionError

    def ended(self, record):
        self.workers.add(record.values["worker"])


def test_a_worker_that_is_still_starting_is_not_ended_by_one_that_is_free(tmp_path):
    jobs = tmp_path / "jobs"
    jobs.mkdir()
    work = UntilBoth(jobs)
    with connected(None):
        Pool(None, Cache(tmp_path / "cache"), 2, TrialResources(cpus=0.5), trial=Late).run(work)
    assert len(work.workers) == 2
