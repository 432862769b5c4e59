import numpy as np
import pytest

from search.algorithms.improvement import expected_improvement
from search.pareto import hypervolume


@pytest.mark.parametrize("costs", [0, 1, 2, 3])
def test_of_a_quality_that_is_certain_it_is_the_hypervolume_gained(costs):
    rng = np.random.default_rng(costs)
    front = -rng.random((12, costs + 1))
    front[3] = front[2]
    reference = np.append(np.zeros(costs), -0.2)
    candidates, quality = 0.1 - rng.random((30, costs)), rng.random(30)
    scale = np.full(costs + 1, 0.5)
    found = expected_improvement(candidates, quality, np.full(30, 1e-9), front, reference, scale)
    held = hypervolume(front, reference)
    gained = [hypervolume(np.vstack([front, [*c, -q]]), reference) - held for c, q in zip(candidates, quality, strict=True)]
    assert found == pytest.approx(np.array(gained) / 0.5 ** (costs + 1), abs=1e-6)
    assert max(gained) > 0


def test_of_an_uncertain_quality_it_is_the_mean_over_what_may_come():
    rng = np.random.default_rng(0)
    front, reference = -rng.random((6, 3)), np.array([0.0, 0.0, -0.1])
    mean, deviation, costs = np.array([0.6]), np.array([0.2]), np.array([[-0.7, -0.6]])
    found = expected_improvement(costs, mean, deviation, front, reference, np.ones(3))
    held = hypervolume(front, reference)
    draws = [hypervolume(np.vstack([front, [-0.7, -0.6, -q]]), reference) - held for q in rng.normal(0.6, 0.2, 4000)]
    assert found[0] == pytest.approx(np.mean(draws), rel=0.1)


def test_what_breaks_a_constraint_promises_nothing():
    found = expected_improvement(np.array([[np.nan], [0.5]]), np.ones(2), np.ones(2), np.zeros((0, 2)), np.zeros(2), np.ones(2))
    assert found.tolist() == [0.0, 0.0]
