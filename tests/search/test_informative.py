import numpy as np

from search.algorithms.informative import informative
from search.pareto import non_dominated


def test_few_observations_all_count():
    assert informative(np.zeros((600, 2))).tolist() == list(range(600))


def test_of_many_those_of_the_front_and_the_latest_are_kept():
    points = np.random.default_rng(0).random((3000, 3))
    points[7] = np.nan
    rows = informative(points)
    assert len(rows) == 600
    assert (np.diff(rows) > 0).all()
    assert set(np.flatnonzero(non_dominated(points))) <= set(rows)
    assert set(range(2900, 3000)) <= set(rows)
