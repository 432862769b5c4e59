from types import SimpleNamespace

import pytest

from compressors.errors import CompressionError
from search.baselines import baseline_recipes
from search.space import Space

ANY = SimpleNamespace(plan=lambda recipe: ())
RECOVER = {"steps": 9, "alpha": 0.0}


def recipes(*steps, runner=ANY):
    return baseline_recipes(Space.from_plain(list(steps)), runner)


@pytest.mark.parametrize(
    ("step", "ratio", "recovery"),
    [
        ({"prune": {"ratio": {"channels": {"uniform": [0, 0.8]}, "blocks": 0.1}, "round_to": 4}}, {"channels": 0.25, "blocks": 0.25}, []),
        ({"prune": {"threshold": 0.3, "round_to": 4}}, 0.25, []),
        ({"prune": {"layers": {"conv1": 0.3}, "round_to": 4}}, 0.25, []),
        ({"prune_iteratively": {"ratio": 0.5, "rounds": {"int": [1, 4]}, "recover": RECOVER, "round_to": 4}}, 0.25, [{"distill": RECOVER}]),
    ],
)
def test_uniform_pruning_takes_kinds_rounding_and_recovery_from_the_experiment(step, ratio, recovery):
    found = recipes(step, {"distill": {"epochs": 1}})
    pruned = {"prune": {"criterion": "l2", "scope": "local", "ratio": ratio, "round_to": 4}}
    assert found["prune-25"] == [pruned, *recovery, {"distill": {"epochs": 1}}]
    assert found["prune-25-int8"] == [*found["prune-25"], *found["int8"]]


def test_an_experiment_that_prunes_nothing_has_baselines_of_precision_only():
    assert list(recipes({"quantize": {}})) == ["fp32", "fp16", "int8", "int4"]


def test_what_cannot_be_planned_is_left_out():
    def plan(recipe):
        if any(step.name == "prune" for step in recipe.steps):
            raise CompressionError("nothing can be pruned")

    assert "prune-50" not in recipes({"prune": {"ratio": 0.5}}, runner=SimpleNamespace(plan=plan))
