import threading
import time

import pytest

from search.ahead import Ahead


def taken(ahead: Ahead[int]) -> int | None:
    while True:
        found = ahead.take()
        if found != ():
            return found
        time.sleep(0.001)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_everything_comes_once_in_order_and_then_nothing(count: int) -> None:
    numbers = iter(range(20))
    ahead = Ahead(lambda: next(numbers, None), lambda: None, count)
    assert [taken(ahead) for _ in range(22)] == [*range(20), None, None]
    ahead.close()


def test_at_most_so_many_are_made_ahead() -> None:
    made: list[int] = []
    ahead = Ahead(lambda: made.append(len(made)) or len(made), lambda: None, 2)
    taken(ahead)
    while len(made) < 3:
        time.sleep(0.001)
    time.sleep(0.05)
    assert len(made) == 3
    ahead.close()
    assert len(made) == 3


def test_what_was_told_is_learned_before_the_next_proposal() -> None:
    learned: list[int] = []
    seen: list[int] = []
    asked = threading.Event()

    def propose() -> int:
        seen.append(len(learned))
        asked.set()
        return len(seen)

    ahead = Ahead(propose, learned.append, 1)
    taken(ahead)
    while len(seen) < 2:
        time.sleep(0.001)
    for value in range(5):
        ahead.tell(value)
    taken(ahead)
    while len(seen) < 3:
        time.sleep(0.001)
    assert seen[2] == 5
    ahead.close()


def test_one_worker_waits_for_what_its_trial_has_found() -> None:
    learned: list[int] = []
    ahead = Ahead(lambda: len(learned), learned.append, 0)
    assert ahead.take() == 0
    ahead.tell(1)
    assert ahead.take() == 1
    ahead.close()


def test_a_failure_reaches_whoever_asks_next() -> None:
    def propose() -> int:
        raise ValueError("no costs")

    ahead = Ahead(propose, lambda: None, 1)
    with pytest.raises(ValueError, match="no costs"):
        taken(ahead)
    ahead.close()
