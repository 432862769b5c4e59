from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evaluators.devices.calibration import timing
from evaluators.devices.calibration.timing import Rounds, time_runs

MACHINE = {"processor": "imagined"}


def test_an_interrupted_calibration_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path, runs, lines = tmp_path / "rounds.json", [lambda: None, lambda: None], []

    def interrupted(line: str) -> None:
        if "round 4 of 7" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        time_runs(runs, "kernels", Rounds(path, MACHINE), interrupted)
    rounds = Rounds(path, MACHINE)
    assert len(rounds.of("kernels", 2)) == 3
    times, spreads = time_runs(runs, "kernels", rounds, lines.append)
    assert [line.rpartition(": ")[2] for line in lines] == ["3 rounds were measured before", *(f"round {i} of 7" for i in (4, 5, 6, 7))]
    assert times.shape == spreads.shape == (2,)
    assert (times > 0).all()
    rounds.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["{", '{"machine": {"processor": "another"}, "rounds": {"kernels": [[1.0, 2.0]]}}', "[]"])
def test_rounds_of_another_machine_or_half_a_file_are_not_read(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rounds.json"
    path.write_text(content)
    assert Rounds(path, MACHINE).of("kernels", 2) == []


def test_the_time_is_the_median_of_the_rounds(tmp_path: Path) -> None:
    rounds = Rounds(None, MACHINE)
    for i in range(7):
        rounds.add("kernels", [10.0 + i])
    times, spreads = time_runs([lambda: None], "kernels", rounds, lambda line: None)
    assert (times, spreads) == (pytest.approx(np.array([13.0])), pytest.approx(np.array([13.0 / 11.5 - 1])))


def test_a_machine_that_was_busy_is_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds", lambda run: 1.0)
    rounds, lines = Rounds(None, MACHINE), []
    for i in range(9):
        rounds.add("kernels", [1000.0 * (1 + i)])
    times, spreads = time_runs([lambda: None], "kernels", rounds, lines.append)
    assert (times, spreads) == (1000, 0)
    assert lines[1].endswith("kernels: round 3 of 7, timings vary by 33%: timed again")
    assert len(rounds.of("kernels", 1)) == 13


def test_no_machine_is_timed_for_ever() -> None:
    rounds = Rounds(None, MACHINE)
    for i in range(14):
        rounds.add("kernels", [1.0 + (i % 3 > 0)])
    _, spreads = time_runs([lambda: None], "kernels", rounds, lambda line: None)
    assert spreads > 0.25
