import json
import subprocess
import sys

import numpy as np
import pytest

import compareto
from compressors.errors import UserError
from search.pareto import hypervolume

SPACE = {"ratio": {"uniform": [0.0, 0.9]}, "bits": {"choice": [8, 4, 16]}, "kind": {"choice": ["l1", "l2", "taylor"]}, "epochs": {"int": [1, 4]}}
TABLE = {"bits": {"choice": [4, 8, 16]}, "kind": {"choice": ["l1", "l2"]}}
NAMES = ("auto", "random", "grid", "nsga2", "tpe", "gp")


def costs(candidates):
    kept = np.array([1 - c["ratio"] for c in candidates])
    return {"size": kept * [c["bits"] / 16 for c in candidates], "time": kept**2}


def table_costs(candidates):
    return {"size": np.array([c["bits"] / 16 for c in candidates])}


def quality(c):
    return 0.9 - 0.4 * c["ratio"] ** 3 - {4: 0.08, 8: 0.01, 16: 0.0}[c["bits"]] + 0.01 * c["epochs"] + 0.02 * (c["kind"] == "taylor")


def run(optimizer, trials, told=quality):
    found = []
    for _ in range(trials):
        (candidate,) = optimizer.ask(1)
        optimizer.tell(candidate, told(candidate))
        found.append(candidate)
    return found


def keys(candidates):
    return {json.dumps(c, sort_keys=True) for c in candidates}


@pytest.mark.parametrize("name", NAMES)
def test_candidates_are_new_feasible_and_repeat_with_the_seed(name):
    rules = ["size + time <= 0.8", lambda c: c["epochs"] < 4]
    found = run(compareto.optimizer(name, SPACE, costs, rules, seed=1), 14)
    assert len(keys(found)) == 14
    assert all(list(c) == list(SPACE) and c["epochs"] < 4 for c in found)
    assert (sum(costs(found).values()) <= 0.8).all()
    assert found == run(compareto.optimizer(name, SPACE, costs, rules, seed=1), 14)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_restored_optimizer_proposes_the_same(name):
    first, second = (compareto.optimizer(name, SPACE, costs, ["size <= 0.6"], seed=2) for _ in range(2))
    run(first, 12, lambda c: None if c["epochs"] == 3 else quality(c))
    first.ask(2)
    second.restore(json.loads(json.dumps(first.state())))
    assert first.ask(3) == second.ask(3)
    with pytest.raises(UserError, match="used already"):
        second.restore(first.state())


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_space_that_is_used_up_yields_fewer(name):
    optimizer = compareto.optimizer(name, TABLE, table_costs, ["size <= 0.5"])
    found = optimizer.ask(9)
    assert len(keys(found)) == len(found) == 4
    for candidate in found:
        optimizer.tell(candidate, 0.5)
    assert optimizer.ask() == []


def test_its_front_is_better_than_that_of_random_candidates():
    def volume(found):
        return hypervolume(np.column_stack([*costs(found).values(), [-quality(c) for c in found]]), np.array([1.0, 1.0, -0.4]))

    ours, random = (volume(run(compareto.optimizer(name, SPACE, costs, seed=0), trials)) for name, trials in (("auto", 30), ("random", 60)))
    assert ours > random


def test_where_evaluations_fail_it_learns_to_stay_away():
    def fails(c):
        return None if c["ratio"] > 0.4 else quality(c)

    found = run(compareto.optimizer("auto", SPACE, costs, seed=2), 36, fails)
    # More than half of the space fails, and it is where costs are lowest.
    assert np.mean([c["ratio"] > 0.42 for c in found[14:]]) < 0.4


def test_a_candidate_that_was_never_asked_for_is_not_proposed():
    optimizer = compareto.optimizer("auto", TABLE, table_costs)
    optimizer.tell({"bits": 4, "kind": "l2"}, 0.7, std=0.1)
    optimizer.tell({"bits": 4, "kind": "l2"}, 0.6, std=0.1)
    found = optimizer.ask(6)
    assert len(found) == 5
    assert {"bits": 4, "kind": "l2"} not in found


def test_without_costs_it_maximises_the_quality():
    found = run(compareto.optimizer("auto", SPACE, lambda _: {}), 26)
    assert max(map(quality, found)) > 0.94


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"algorithm": "nsga"}, "unknown algorithm 'nsga'; accepted: auto, random, nsga2, tpe, gp, grid; did you mean 'nsga2'"),
        ({"space": {}}, "space: expected names with ranges"),
        ({"space": {"a": {"choice": []}}}, r"space\['a'\]: choice \[\] is empty"),
        ({"space": {"a": {"uniform": [1, 0]}, "b": 3}}, r"space\['b'\]: expected a mapping with one key of choice"),
        ({"space": {"a": {"uniform": [1, 0]}}}, r"space\['a'\]: low 1 is above high 0"),
        ({"constraints": ["sise <= 1"]}, "unknown cost 'sise'; accepted: size, quality; did you mean 'size'"),
        ({"constraints": ["size <="]}, "expected a metric or a number"),
        ({"constraints": [3]}, "constraints: 3 is neither"),
        ({"constraints": ["size <= baseline"]}, "'baseline', which only experiments have"),
        ({"costs": lambda cs: {"size": np.full(len(cs), np.nan)}}, r"costs\['size'\] is nan for \{'bits'"),
        ({"costs": lambda _: {"size": [1.0]}}, r"costs\['size'\] has shape \(1,\)"),
        ({"costs": lambda cs: {"size": ["x"] * len(cs)}}, r"costs\['size'\] are not numbers"),
        ({"costs": lambda cs: [1.0] * len(cs)}, "costs: expected a mapping of names to arrays, got list"),
        ({"costs": 3}, "costs: expected a function"),
        ({"seed": -1}, "seed -1 is not accepted"),
    ],
)
def test_a_mistake_is_one_clear_error(arguments, message):
    with pytest.raises(UserError, match=message):
        compareto.optimizer(**{"algorithm": "auto", "space": TABLE, "costs": table_costs, **arguments})


def test_what_is_told_is_checked():
    optimizer = compareto.optimizer("auto", TABLE, table_costs)
    with pytest.raises(UserError, match="bits: 5 is not a choice; accepted: 4, 8, 16"):
        optimizer.tell({"bits": 5, "kind": "l1"}, 0.5)
    with pytest.raises(UserError, match="no value for 'kind'"):
        optimizer.tell({"bits": 4}, 0.5)
    with pytest.raises(UserError, match="is nan; accepted: a finite number, or None"):
        optimizer.tell({"bits": 4, "kind": "l1"}, float("nan"))
    with pytest.raises(UserError, match=r"std of .* is -1"):
        optimizer.tell({"bits": 4, "kind": "l1"}, 0.5, std=-1)
    with pytest.raises(UserError, match=r"ask\(0\)"):
        optimizer.ask(0)
    with pytest.raises(UserError, match="the state has another algorithm"):
        optimizer.restore(compareto.optimizer("random", TABLE, table_costs).state())
    assert len(optimizer.ask(6)) == 6


def test_it_needs_no_ray():
    code = (
        "import sys, compareto; o = compareto.optimizer('auto', {'a': {'uniform': [0, 1]}}, lambda cs: {'c': [x['a'] for x in cs]})\n"
        "for c in o.ask(9): o.tell(c, c['a'])\n"
        "o.ask(); print({'ray'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "set()"


def test_a_lower_bound_of_quality_keeps_searches_from_collapsed_candidates() -> None:
    """The cheaper, the worse: without a bound, the cheapest half of the front is worth searching."""

    def costs(candidates: list[dict[str, float]]) -> dict[str, np.ndarray]:
        return {"size": np.array([c["x"] for c in candidates])}

    def shares(name: str, *constraints: str) -> float:
        searcher = compareto.optimizer(name, {"x": {"uniform": [0, 1]}, "y": {"uniform": [0, 1]}}, costs, constraints, seed=0)
        found = []
        for _ in range(40):
            (candidate,) = searcher.ask(1)
            found.append(candidate["x"] * (1 - (candidate["y"] - 0.3) ** 2))
            searcher.tell(candidate, found[-1])
        return float(np.mean(np.array(found[15:]) >= 0.7))

    assert shares("auto", "quality >= 0.7") > shares("auto") + 0.2
    for name in ("nsga2", "tpe"):
        assert shares(name, "quality >= 0.7") > shares(name)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [("quality <= 0.5", "is no lower bound of the quality"), ("quality >= size", "names quality beside costs"), ("qualty >= 1", "did you mean 'quality'")],
)
def test_what_is_no_lower_bound_of_quality_is_refused(constraint: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        compareto.optimizer("auto", {"x": {"uniform": [0, 1]}}, lambda candidates: {"size": np.array([c["x"] for c in candidates])}, [constraint])
