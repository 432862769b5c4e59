import pytest

from search.serving.rate_limit import RateLimit


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_burst_is_taken_and_then_so_many_a_second():
    clock = Clock()
    limit = RateLimit(10, 3, clock)
    assert [limit.take() for _ in range(3)] == [0, 0, 0]
    assert limit.take() == pytest.approx(0.1)
    clock.now += 0.1
    assert limit.take() == 0
    assert limit.take() > 0
    clock.now += 60
    assert sum(limit.take() == 0 for _ in range(10)) == 3


def test_over_a_second_no_more_than_the_rate_and_the_burst():
    clock = Clock()
    limit = RateLimit(50, 5, clock)
    taken = 0
    for _ in range(1000):
        taken += limit.take() == 0
        clock.now += 0.001
    assert 54 <= taken <= 56


def test_without_a_rate_everything_is_taken():
    limit = RateLimit(None, 1, Clock())
    assert not any(limit.take() for _ in range(100))


def test_retry_after_is_whole_seconds():
    assert [RateLimit.retry_after(s) for s in (0.01, 1.0, 1.2)] == ["1", "1", "2"]
