import numpy as np
import pytest

from search.promotion import Promotion

RUNG = 0.25


def trained(count: int = 30, seed: int = 0, noise: float = 0.01) -> Promotion:
    """Trials whose end follows from their rung: halfway from there to 1."""
    rng = np.random.default_rng(seed)
    promotion = Promotion([RUNG])
    for i in range(count):
        cost = rng.random()
        part = 0.2 + 0.6 * cost + 0.05 * rng.standard_normal()
        promotion.reached(str(i), RUNG, [cost], part)
        promotion.ended(str(i), [cost], 0.5 + 0.5 * part + noise * rng.standard_normal())
    return promotion


def test_everything_goes_on_before_a_rung_is_known() -> None:
    promotion = trained(11)
    promotion.reached("poor", RUNG, [0.9], 0.0)
    assert promotion.rungs == (RUNG,)
    assert promotion.correlation(RUNG) is None
    assert promotion.promising("poor")
    assert promotion.expected("poor") is None


def test_what_could_reach_the_front_goes_on_and_what_could_not_does_not() -> None:
    promotion = trained()
    for name, cost, part in (("good", 0.5, 0.75), ("poor", 0.9, 0.3), ("cheapest", -0.5, 0.1)):
        promotion.reached(name, RUNG, [cost], part)
    assert promotion.promising("good")
    assert not promotion.promising("poor")
    assert promotion.promising("cheapest"), "nothing on the front is as cheap"
    assert promotion.best(["poor"]) is None
    assert promotion.best(["poor", "good"]) == "good"


def test_the_expectation_is_that_of_the_whole_training() -> None:
    promotion = trained()
    promotion.reached("x", RUNG, [0.5], 0.5)
    mean, deviation = promotion.expected("x") or (0.0, 0.0)
    assert mean == pytest.approx(0.75, abs=0.03)
    assert 0.003 < deviation < 0.06


def test_a_rung_that_says_nothing_is_not_used() -> None:
    rng = np.random.default_rng(0)
    promotion = Promotion([RUNG, 0.5])
    for i in range(20):
        quality = rng.random()
        promotion.reached(str(i), RUNG, [rng.random()], rng.random())
        promotion.reached(str(i), 0.5, [rng.random()], quality + 0.05 * rng.random())
        promotion.ended(str(i), [rng.random()], quality)
    assert promotion.rungs == (0.5,)
    promotion.reached("poor", RUNG, [2.0], 0.0)
    assert promotion.promising("poor")
    promotion.reached("poor", 0.5, [2.0], 0.0)
    assert not promotion.promising("poor")


def test_what_breaks_a_constraint_for_sure_does_not_go_on() -> None:
    promotion = Promotion([RUNG], floor=0.8)
    for i in range(15):
        promotion.reached(str(i), RUNG, [1 + i], 0.5 + 0.02 * i)
        promotion.ended(str(i), [1 + i], 0.6 + 0.02 * i)
    promotion.reached("cheap but poor", RUNG, [0.5], 0.5)
    assert not promotion.promising("cheap but poor")


def test_equal_ends_say_nothing() -> None:
    promotion = Promotion([RUNG])
    for i in range(15):
        promotion.reached(str(i), RUNG, [i], i)
        promotion.ended(str(i), [i], 1.0)
    assert promotion.correlation(RUNG) == 0
    assert promotion.rungs == ()
