import numpy as np
import pytest

from search.algorithms.algorithm import Known
from search.algorithms.improvement import expected_improvement
from search.algorithms.known_cost import KnownCostSearch
from search.algorithms.random_search import RandomSearch
from search.pareto import hypervolume
from search.space import Space

SPACE = Space.from_plain(
    [
        {"prune": {"criterion": {"choice": ["l1", "l2", "taylor"]}, "ratio": {"uniform": [0.0, 0.9]}}},
        {"optional": {"distill": {"epochs": {"int": [1, 4]}, "temperature": {"uniform": [1, 8]}}}},
        {"quantize": {"weight_bits": {"choice": [4, 8, 16]}, "activation_bits": {"choice": [8, 16]}}},
    ]
)


def costs(points):
    rows = []
    for p in points:
        size = (1 - p["prune.ratio"]) * p["quantize.weight_bits"] / 16
        time = (1 - p["prune.ratio"]) * (0.5 if p["quantize.activation_bits"] == 8 and p["quantize.weight_bits"] <= 8 else 1.0)
        rows.append([np.nan, np.nan] if p["prune.ratio"] > 0.8 else [size, time])
    return np.array(rows)


def quality(p):
    lost = 0.3 * p["prune.ratio"] ** 3 * {"l1": 1.3, "l2": 1.0, "taylor": 0.8}[p["prune.criterion"]]
    taught = 0.03 * (1 - abs(p["distill.temperature"] - 4) / 4) if p["optional.distill"] else -0.03
    return 0.9 - lost + taught - {4: 0.06, 8: 0.004, 16: 0.0}[p["quantize.weight_bits"]]


KNOWN = Known(costs, 0, 1, np.array([1.0, 1.0, -0.6]), np.array([1.0, 1.0, 0.4]))


def search(algorithm, trials=36):
    points = []
    for _ in range(trials):
        point = algorithm.ask()
        points.append(point)
        algorithm.tell(point, [quality(point), 0.0, 0.0])
    return points


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_expected_improvement_is_that_of_sampled_qualities(k):
    rng = np.random.default_rng(k)
    front = np.column_stack([rng.random((6, k)), -rng.random(6)])
    reference, scale = np.append(np.ones(k), 0.0), np.append(np.full(k, 2.0), 0.5)
    candidates, mean, deviation = rng.random((4, k)), rng.random(4), np.array([0.05, 0.2, 0.4, 0.1])
    found = expected_improvement(candidates, mean, deviation, front, reference, scale)
    before = hypervolume(front, reference)
    for i in range(4):
        sampled = mean[i] + deviation[i] * rng.standard_normal(500)
        gains = [hypervolume(np.vstack([front, [*candidates[i], -q]]), reference) - before for q in sampled]
        assert found[i] == pytest.approx(np.mean(gains) / scale.prod(), abs=4 * np.std(gains) / scale.prod() / 500**0.5 + 1e-4)


def test_a_candidate_beyond_the_reference_is_worth_nothing():
    assert expected_improvement(np.array([[2.0]]), np.array([9.0]), np.array([1.0]), np.zeros((0, 2)), np.array([1.0, 0.0]), np.ones(2))[0] == 0


def test_points_are_new_feasible_and_repeat_with_the_seed():
    points = search(KnownCostSearch(SPACE, KNOWN, 3), 20)
    assert len({str(p) for p in points}) == 20
    assert np.isfinite(costs(points)).all()
    assert points == search(KnownCostSearch(SPACE, KNOWN, 3), 20)
    assert points != search(KnownCostSearch(SPACE, KNOWN, 4), 20)


def test_the_first_points_fill_the_range():
    algorithm = KnownCostSearch(SPACE, Known(lambda points: np.zeros((len(points), 2)), 0, 1, KNOWN.reference, KNOWN.scale), 0)
    ratios = [algorithm.ask()["prune.ratio"] for _ in range(8)]
    assert {int(4 * ratio / 0.9) for ratio in ratios} == {0, 1, 2, 3}


def test_pending_points_are_not_proposed_again_and_spread():
    algorithm = KnownCostSearch(SPACE, KNOWN, 0)
    search(algorithm, 14)
    pending = [algorithm.ask() for _ in range(5)]
    assert len({str(p) for p in pending}) == 5


def test_failures_are_never_proposed_again():
    algorithm = KnownCostSearch(SPACE, KNOWN, 0)
    points = []
    for _ in range(12):
        points.append(algorithm.ask())
        algorithm.tell(points[-1], None)
    assert len({str(p) for p in points}) == 12


def test_its_front_is_better_than_that_of_random_points():
    def volume(points):
        return hypervolume(np.column_stack([costs(points), [-quality(p) for p in points]]), KNOWN.reference)

    ours = np.mean([volume(search(KnownCostSearch(SPACE, KNOWN, seed))) for seed in range(2)])
    random = np.mean([volume([p for p in search(RandomSearch(SPACE, seed), 60) if np.isfinite(costs([p])).all()][:36]) for seed in range(2)])
    assert ours > 1.1 * random
