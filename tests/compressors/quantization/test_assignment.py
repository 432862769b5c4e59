"""The assignment against every assignment there is."""

import itertools

import numpy as np
import pytest

from compressors.errors import CompressionError
from compressors.quantization.assignment import assign

BITS = np.array([2, 3, 4, 8])


def total(table, choices):
    return table[np.arange(len(choices)), choices].sum()


def best_of_all(losses, costs, budget):
    return min(
        total(losses, choices) for choices in itertools.product(range(losses.shape[1]), repeat=len(losses)) if total(costs, np.array(choices)) <= budget + 1e-9
    )


@pytest.mark.parametrize("seed", range(60))
def test_no_assignment_is_better(seed):
    rng = np.random.default_rng(seed)
    sites, choices = rng.integers(1, 7), rng.integers(1, 5)
    losses = rng.random((sites, choices)) * 10.0 ** rng.integers(-3, 3, (sites, 1))
    costs = rng.integers(0, 20, (sites, choices)) * (0.1 if seed % 2 else 1.0)
    budget = rng.uniform(costs.min(1).sum(), costs.max(1).sum())
    found = assign(losses, costs, budget)
    assert total(costs, found) <= budget + 1e-9
    assert total(losses, found) == pytest.approx(best_of_all(losses, costs, budget), rel=1e-6, abs=1e-12)


def table(sites, seed=0):
    """Losses and costs of a model: layers of all sizes, a bit less loses four times as much."""
    rng = np.random.default_rng(seed)
    elements = rng.integers(100, 3_000_000, sites)
    losses = 10.0 ** rng.uniform(-2, 1, (sites, 1)) * 4.0**-BITS * rng.uniform(1, 1.3, (sites, 4))
    return losses, elements[:, None] * BITS.astype(float), elements.sum()


def test_more_budget_never_loses_more():
    losses, costs, elements = table(60)
    lost = [total(losses, assign(losses, costs, bits * elements)) for bits in np.linspace(2, 8, 50)]
    assert (np.diff(lost) <= 0).all()
    assert len(set(lost)) == 50


def test_it_beats_uniform_bits_and_ends_at_them():
    losses, costs, elements = table(60)
    assert total(losses, assign(losses, costs, 4 * elements)) < 0.9 * losses[:, 2].sum()
    assert (assign(losses, costs, 8 * elements) == 3).all()
    assert (assign(losses, costs, 2 * elements) == 0).all()


def test_a_choice_that_is_not_there_is_not_taken():
    losses, costs, elements = table(20)
    losses[:, 2], costs[:10, 1] = np.nan, np.inf
    found = assign(losses, costs, 5 * elements)
    assert set(found) == {0, 1, 3}
    assert (found[:10] != 1).all()


def test_losses_that_are_proportional_to_costs_are_no_trap():
    """Then nearly every assignment that spends the budget is as good as any other."""
    _, costs, elements = table(100)
    found = assign(8.0 * elements - costs, costs, 5 * elements)
    assert 5 * elements * (1 - 1e-5) < total(costs, found) <= 5 * elements


def test_equal_losses_take_the_cheapest():
    assert assign([[1.0, 1.0, 1.0]], [[3.0, 1.0, 2.0]], 9).tolist() == [1]


def test_a_budget_below_the_least_says_what_is_possible():
    with pytest.raises(CompressionError, match=r"a budget of 9.5 is too small; accepted: at least 10"):
        assign([[0, 1], [0, 1]], [[7, 5], [7, 5]], 9.5)
    with pytest.raises(CompressionError, match="site 1 has no choice"):
        assign([[0, 1], [np.nan, np.nan]], [[7, 5], [7, 5]], 20)
    with pytest.raises(ValueError, match=r"must be \[sites, choices\]"):
        assign([0, 1], [0, 1], 1)
