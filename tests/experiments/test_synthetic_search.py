import importlib
from pathlib import Path

import numpy as np
import pytest

from search.algorithms.cost_problem import flat_space
from search.pareto import hypervolume, non_dominated

FOLDER = Path(__file__).parents[2] / "experiments/benchmarks/search"


@pytest.fixture
def synthetic(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("synthetic")


@pytest.fixture
def problem(synthetic):
    return synthetic.problem


def candidates(problem, count):
    space, rng = flat_space(problem.SPACE), np.random.default_rng(0)
    return [space.sample(rng) for _ in range(count)]


def test_the_uncompressed_network_costs_all_and_loses_nothing(problem):
    whole = {f"prune_{i}": 0.0 for i in range(6)} | {"weight_bits": 16, "activation_bits": 16, "temperature": 4.0, "teacher_weight": 0.5, "learning_rate": 1e-3}
    assert [float(v[0]) for v in problem.costs([whole]).values()] == pytest.approx([0.0, 0.0], abs=1e-9)
    assert problem.quality([whole])[0] == pytest.approx(0.93)
    assert problem.observed(whole, 0) != problem.observed(whole, 1)
    assert abs(problem.observed(whole, 0) - 0.93) < 5 * problem.NOISE


def test_no_candidate_is_beyond_the_reference_front(problem):
    total, oracle = problem.reference_front()
    assert non_dominated(oracle).all()
    held = [hypervolume(oracle[:n], problem.REFERENCE) / total for n in (1, 20, len(oracle))]
    assert held[0] < held[1] < held[2] <= 1
    assert held[2] > 0.97
    found = candidates(problem, 2000)
    points = np.column_stack([*problem.costs(found).values(), -problem.quality(found)])
    assert hypervolume(np.vstack([oracle, points]), problem.REFERENCE) <= total
    assert problem.share(found[:50]) < problem.share(found) < 0.8


def test_evaluations_are_counted_to_the_one_that_reaches_the_share(synthetic, problem):
    comparison, stated = importlib.import_module("comparison"), synthetic.stated()
    found = candidates(problem, 60)
    reached = comparison.needed(stated, found, 0.3)
    assert problem.share(found[:reached]) >= 0.3 > problem.share(found[: reached - 1])
    assert comparison.needed(stated, found, 0.95) is None
    assert comparison.quartiles([10, 20, None], 60) == "20 (20 to > 60)"


@pytest.mark.parametrize("name", ["auto", "modelled", "random", "stages"])
def test_a_search_is_a_row_of_the_table(synthetic, name):
    comparison, stated = importlib.import_module("comparison"), synthetic.stated()
    row = comparison.run(stated, name, 26, 0)
    assert row["needed"] == {"0.9": None, "0.95": None, "0.97": None}
    assert 0.05 < row["curve"]["25"] < 0.9
    assert f"| {name} | 1 | > 26 |" in "\n".join(comparison.table(stated, [row]))


@pytest.mark.parametrize("name", ["auto", "stages", "promotion", "random promotion"])
def test_a_recorded_table_is_searched_with_its_trainings_counted(synthetic, name):
    comparison, recorded = importlib.import_module("comparison"), importlib.import_module("recorded")
    problem = recorded.Table(recorded.RECORDING).problem({name: 30})
    row = comparison.run(problem, name, 30, 0)
    assert 0.5 < row["curve"][str(row["evaluations"])] < 1
    evaluated, spent = row["needed"]["0.9"], row["cost"]["0.9"]
    assert evaluated is None or 0.1 * evaluated <= spent <= 1.5 * evaluated
