from search import progress as module
from search.progress import Progress


def test_the_time_left_is_told_by_trials_and_not_by_what_came_before(monkeypatch, capsys):
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    progress = Progress(24)
    now += 600.0
    progress.searching()
    now += 60.0
    progress.update(2, 2, 1, 0.5, 0)
    assert capsys.readouterr().err == "trials 2/24, front 1, hypervolume 0.5000, 11 min left\n"
    now += 5.0
    progress.update(3, 3, 1, 0.5, 0)
    assert not capsys.readouterr().err, "at most every ten seconds"
    now += 655.0
    progress.update(24, 24, 3, 0.9, 1)
    assert capsys.readouterr().err == "trials 24/24, front 3, hypervolume 0.9000, failed 1, 0 s left\n"
