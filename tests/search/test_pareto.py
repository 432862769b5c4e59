import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from search.pareto import dominates, hypervolume, knee, non_dominated, reference_box

# Few distinct values, so that ties and duplicates are common.
GRID = st.integers(1, 4).flatmap(lambda m: st.integers(1, 8).flatmap(lambda n: arrays(np.float64, (n, m), elements=st.integers(0, 5).map(float))))


def brute_force_front(points):
    kept = []
    for p in points:
        beaten = any(all(a <= b for a, b in zip(q, p, strict=True)) and any(a < b for a, b in zip(q, p, strict=True)) for q in points)
        kept.append(not beaten)
    return kept


def counted_cells(points, reference):
    """On an integer grid, the volume is the number of unit cells that some point dominates."""
    cells = np.stack(np.meshgrid(*(np.arange(r) for r in reference.astype(int)), indexing="ij"), -1).reshape(-1, len(reference))
    return int((points[:, None, :] <= cells[None]).all(-1).any(0).sum())


@settings(max_examples=150, deadline=None)
@given(GRID)
def test_front_equals_brute_force(points):
    assert non_dominated(points).tolist() == brute_force_front(points.tolist())


@settings(max_examples=150, deadline=None)
@given(GRID)
def test_hypervolume_equals_counted_cells(points):
    reference = np.full(points.shape[1], 5.0)
    assert hypervolume(points, reference) == pytest.approx(counted_cells(points, reference))


@settings(max_examples=50, deadline=None)
@given(GRID)
def test_dominated_points_and_duplicates_change_no_hypervolume(points):
    reference = np.full(points.shape[1], 6.0)
    worse = np.concatenate([points, points + 0.5, points])
    assert hypervolume(worse, reference) == pytest.approx(hypervolume(points, reference))


@pytest.mark.parametrize("objectives", [2, 3, 4, 5])
def test_hypervolume_agrees_with_an_independent_implementation(objectives):
    from optuna._hypervolume import compute_hypervolume

    points = np.random.default_rng(objectives).random((25, objectives))
    reference = np.full(objectives, 1.1)
    assert hypervolume(points, reference) == pytest.approx(compute_hypervolume(points, reference), rel=1e-10)


def test_a_nan_is_never_on_the_front_and_beats_nobody():
    points = np.array([[np.nan, 0.0], [1.0, 1.0], [0.0, np.nan]])
    assert non_dominated(points).tolist() == [False, True, False]
    assert hypervolume(points, np.array([2.0, 2.0])) == 1.0


def test_equal_points_stay_together():
    assert non_dominated(np.array([[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]])).tolist() == [True, True, False]


def test_thousands_of_points_are_judged_in_chunks():
    points = np.random.default_rng(0).random((3000, 3))
    kept = non_dominated(points)
    assert not dominates(points[:, None][:20], points[kept][None]).any()
    assert dominates(points[kept][None], points[~kept][:50, None]).any(1).all()


def test_no_points_dominate_nothing():
    assert hypervolume(np.empty((0, 3)), np.ones(3)) == 0.0
    assert non_dominated(np.empty((0, 3))).tolist() == []


def test_the_knee_is_the_corner_of_an_l_shaped_front():
    front = np.array([[0.0, 100.0], [0.1, 20.0], [0.15, 10.0], [1.0, 0.0], [0.9, 90.0]])
    assert knee(front) == 2


def test_the_knee_does_not_depend_on_units():
    front = np.random.default_rng(1).random((40, 3))
    scaled = front * np.array([1e6, 1e-3, 1.0]) + np.array([5.0, 0.0, -7.0])
    assert knee(front) == knee(scaled)


@pytest.mark.parametrize(("points", "expected"), [([[1.0, 1.0]], 0), ([[2.0, 2.0], [1.0, 1.0]], 1), ([[np.nan, 1.0]], None), ([[1.0, 3.0], [1.0, 3.0]], 0)])
def test_the_knee_of_a_front_without_extent(points, expected):
    assert knee(np.array(points)) == expected


def test_the_reference_makes_the_worst_baseline_count_and_the_ideal_one_1():
    anchors = np.array([[0.0, 10.0], [10.0, 0.0]])
    reference, scale = reference_box(anchors)
    assert reference.tolist() == [11.0, 11.0]
    assert hypervolume(np.array([[0.0, 0.0]]), reference) / scale.prod() == pytest.approx(1.0)
    assert hypervolume(anchors[:1], reference) > 0


def test_one_baseline_is_enough_for_a_reference():
    reference, scale = reference_box(np.array([[-0.9, 100.0]]))
    assert reference == pytest.approx([-0.81, 110.0])
    assert (scale > 0).all()
