import numpy as np
import pytest

from compressors.errors import DivergedError
from evaluators.metric import Estimate
from evaluators.tasks.intervals import average_interval, average_of_means, mean_interval, paired_difference, wilson


def test_wilson_of_known_shares() -> None:
    # Wilson's score interval at z = 1.6449, as in R: prop.test(450, 500, conf.level = .9, correct = FALSE).
    found = wilson(np.repeat([1.0, 0.0], [450, 50]))
    assert (found.value, found.tier) == (0.9, "measured")
    assert (round(found.low, 4), round(found.high, 4)) == (0.8757, 0.9200)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wilson_at_the_ends_is_neither_empty_nor_outside(share: float) -> None:
    found = wilson(np.full(20, share))
    assert found.value == share
    assert 0.0 <= found.low <= share <= found.high <= 1.0
    assert found.high - found.low > 0.1


@pytest.mark.parametrize(("share", "count"), [(0.5, 50), (0.9, 500)])
def test_nine_of_ten_intervals_hold_the_truth(share: float, count: int) -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((2000, count)) < share
    held = np.mean([e.low <= share <= e.high for e in map(wilson, samples.astype(float))])
    assert 0.87 < held < 0.93
    held = np.mean([e.low <= share <= e.high for e in map(mean_interval, rng.normal(share, 1, (2000, count)))])
    assert 0.87 < held < 0.93


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    before = (rng.random(500) < 0.9).astype(float)
    after = before.copy()
    after[:10] = 0
    difference = paired_difference(after, before)
    assert difference.value == pytest.approx(after.mean() - before.mean())
    assert difference.high - difference.low < 0.5 * (wilson(after).high - wilson(after).low)


def test_one_example_has_a_value_and_no_spread() -> None:
    assert mean_interval(np.array([2.0])).to_plain() == {"value": 2.0, "low": 2.0, "high": 2.0, "tier": "measured"}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_no_mean(bad: float) -> None:
    with pytest.raises(DivergedError, match="1 of 3 values are not finite"):
        mean_interval(np.array([1.0, bad, 2.0]))


def test_the_mean_of_means_has_the_standard_error_of_a_stratified_sample() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(1, 3, 100), rng.normal(5, 1, 4000)
    values = average_of_means([small, large])
    assert values.mean() == pytest.approx((small.mean() + large.mean()) / 2)
    expected = np.sqrt(small.var() / 100 + large.var() / 4000) / 2
    assert values.std() / np.sqrt(len(values)) == pytest.approx(expected)
    # Of two models that differ by as much on every example of a part, nothing is left to chance.
    other = average_of_means([small + 1, large - 3])
    assert np.ptp(values - other) == pytest.approx(0, abs=1e-12)


def test_the_mean_of_independent_estimates_keeps_the_shape_of_their_intervals() -> None:
    parts = [Estimate(0.9, 0.8, 0.93), Estimate(0.5, 0.4, 0.6)]
    found = average_interval(parts)
    assert found.value == pytest.approx(0.7)
    assert found.value - found.low == pytest.approx(np.hypot(0.1, 0.1) / 2)
    assert found.high - found.value == pytest.approx(np.hypot(0.03, 0.1) / 2)
