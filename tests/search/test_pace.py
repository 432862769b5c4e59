import pytest

from search.pace import Pace
from search.record import StageRecord, TrialRecord


def ended(seconds, *, cached=False, trained=True, **changes):
    stages = (StageRecord("distill", "a", cached, seconds - 1.0),) * trained + (StageRecord("evaluate", "b", cached, 1.0),)
    return TrialRecord("1", [], "ok", stages=stages, seconds=seconds, **changes)


def test_the_time_of_publishing_follows_from_trials_that_were_really_run():
    pace = Pace()
    assert pace.publishing(10, 1, 2) == 0.0
    for _ in range(20):
        pace.add(ended(11.0))
        pace.add(ended(0.01, cached=True))
        pace.add(ended(1.0, trained=False))
        pace.add(ended(500.0, origin="elsewhere"))
    assert pace.training == pytest.approx(11.0)
    assert pace.publishing(5, 2, 2) == pytest.approx(3 * 1.0 + 5 * 11.0)
