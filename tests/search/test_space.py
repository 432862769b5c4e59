from typing import Any

import numpy as np
import pytest

from compressors.errors import UserError
from compressors.recipe import Recipe
from search.recipe_check import recipe_problems
from search.space import Space

PLAIN: list[dict[str, Any]] = [
    {"prune": {"criterion": {"choice": ["l2", "taylor"]}, "ratio": {"channels": {"uniform": [0.0, 0.8]}}, "exclude": ["head.*"]}},
    {"optional": {"low_rank": {"rank": {"uniform": [0.2, 0.8]}, "steps": [{"int": [1, 3]}, 5]}}},
    {"one_of": [{"distill": {"epochs": 2, "temperature": {"loguniform": [1, 8]}}}, {"train": {"epochs": {"int": [1, 4]}}}]},
    {"quantize": {"weight_bits": {"choice": [16, 4, 8]}, "mode": "static"}},
]


def space() -> Space:
    return Space.from_plain(PLAIN)


def test_every_range_is_a_dimension_with_a_readable_name() -> None:
    assert [d.name for d in space().dimensions] == [
        "prune.criterion",
        "prune.ratio.channels",
        "optional.low_rank",
        "low_rank.rank",
        "low_rank.steps[0]",
        "one_of",
        "distill.temperature",
        "train.epochs",
        "quantize.weight_bits",
    ]


def test_a_point_becomes_the_plain_recipe() -> None:
    values = {"prune.criterion": "taylor", "prune.ratio.channels": 0.25, "optional.low_rank": True, "low_rank.rank": 0.5, "low_rank.steps[0]": 2}
    values |= {"one_of": "train", "train.epochs": 3, "quantize.weight_bits": 4}
    assert space().plain_recipe(values) == [
        {"prune": {"criterion": "taylor", "ratio": {"channels": 0.25}, "exclude": ["head.*"]}},
        {"low_rank": {"rank": 0.5, "steps": [2, 5]}},
        {"train": {"epochs": 3}},
        {"quantize": {"weight_bits": 4, "mode": "static"}},
    ]


def test_what_is_not_chosen_does_not_tell_points_apart() -> None:
    base = {"prune.criterion": "l2", "prune.ratio.channels": 0.25, "optional.low_rank": False, "one_of": "train", "train.epochs": 1, "quantize.weight_bits": 8}
    a = space().normalise({**base, "low_rank.rank": 0.3, "distill.temperature": 2.0})
    b = space().normalise({**base, "low_rank.rank": 0.7, "distill.temperature": 5.0, "low_rank.steps[0]": 1})
    assert a == b == base
    assert (space().encode(a) == space().encode({**base, "low_rank.rank": 0.7})).all()


def test_samples_round_trip_through_codes_in_the_unit_cube() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        values = space().sample(rng)
        code = space().encode(values)
        assert ((code >= 0) & (code <= 1)).all()
        decoded = space().decode(code)
        assert decoded.keys() == values.keys()
        assert all(v == pytest.approx(values[k], rel=1e-5) if isinstance(v, float) else v == values[k] for k, v in decoded.items())
        seen.add((values["optional.low_rank"], values["one_of"], values["quantize.weight_bits"]))
    assert len(seen) == 12


def test_numeric_choices_are_ordered() -> None:
    (bits,) = (d for d in space().dimensions if d.name == "quantize.weight_bits")
    assert bits.ordinal
    assert bits.encode(4) < bits.encode(8) < bits.encode(16)
    assert [bits.decode(c) for c in (0.0, 0.5, 1.0)] == [4, 8, 16]


def test_the_same_seed_gives_the_same_points() -> None:
    assert space().sample(np.random.default_rng(7)) == space().sample(np.random.default_rng(7))


def test_repeated_steps_are_told_apart_by_their_place() -> None:
    twice = Space.from_plain([{"distill": {"epochs": {"int": [1, 2]}}}, {"prune": {"ratio": 0.5}}, {"distill": {"epochs": {"int": [3, 4]}}}])
    assert [d.name for d in twice.dimensions] == ["recipe[0].distill.epochs", "recipe[2].distill.epochs"]
    assert twice.plain_recipe({"recipe[0].distill.epochs": 1, "recipe[2].distill.epochs": 4})[2] == {"distill": {"epochs": 4}}


def test_nested_conditions() -> None:
    nested = Space.from_plain([{"optional": {"one_of": [{"one_of": [{"a": {"x": {"int": [1, 3]}}}, {"b": {}}]}, {"a": {"x": 9}}]}}])
    assert nested.size == 1 + (3 + 1) + 1
    rng = np.random.default_rng(0)
    found = {str(nested.plain_recipe(nested.sample(rng))) for _ in range(200)}
    assert found == {"[]", "[{'b': {}}]", *(f"[{{'a': {{'x': {x}}}}}]" for x in (1, 2, 3, 9))}


@pytest.mark.parametrize(
    ("plain", "size"),
    [
        ([], 1),
        ([{"quantize": None}], 1),
        ([{"a": {"x": {"choice": [1, 2]}, "y": {"int": [1, 3]}}}], 6),
        ([{"optional": {"a": {"x": {"choice": [1, 2]}}}}, {"one_of": [{"b": {}}, {"c": {"x": {"choice": [1, 2, 3]}}}]}], 12),
        ([{"a": {"x": {"uniform": [0, 1]}}}], None),
        ([{"a": {"x": {"uniform": [1, 1]}}}], 1),
    ],
)
def test_size(plain: list[Any], size: int | None) -> None:
    assert Space.from_plain(plain).size == size


def test_a_recipe_without_ranges_is_one_point() -> None:
    fixed = Space.from_plain([{"quantize": {"weight_bits": 8}}])
    assert fixed.dimensions == ()
    assert fixed.plain_recipe(fixed.sample(np.random.default_rng(0))) == [{"quantize": {"weight_bits": 8}}]


def test_plain_round_trip() -> None:
    assert Space.from_plain(space().to_plain()) == space()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"uniform": [0.8, 0.0]}, "recipe[0].prune.ratio: low 0.8 is above high 0.0; accepted: low <= high"),
        ({"loguniform": [0, 1]}, "recipe[0].prune.ratio: low 0 of loguniform is not above 0"),
        ({"uniform": [0.1]}, "accepted: [low, high], two numbers"),
        ({"uniform": 0.1}, "uniform 0.1 is not a list"),
        ({"int": [0.5, 2]}, "two integers"),
        ({"uniform": [0, float("inf")]}, "two finite numbers"),
        ({"choice": []}, "choice [] is empty"),
        ({"choice": [1, 2, 1]}, "names a value twice"),
        ({"choice": [1, {"uniform": [0, 1]}]}, "holds a range"),
        ({"uniform": [0, 1], "step": 0.1}, "a range is a mapping with one key"),
    ],
)
def test_malformed_ranges_say_where_what_and_what_is_accepted(body: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        Space.from_plain([{"prune": {"ratio": body}}])
    assert said in str(caught.value)


def test_malformed_steps_are_all_reported() -> None:
    with pytest.raises(UserError) as caught:
        Space.from_plain([{"prune": {}, "distill": {}}, "prune", {"optional": 3}, {"one_of": []}, {"prune": 0.5}])
    message = str(caught.value)
    assert [f"recipe[{i}]" in message for i in range(5)] == [True] * 5


@pytest.mark.parametrize(("name", "value"), [("prune.criterion", "l3"), ("prune.ratio.channels", 0.9), ("quantize.weight_bits", 5), ("quantise", 1)])
def test_values_outside_of_the_space_are_refused(name: str, value: Any) -> None:
    values = {**space().sample(np.random.default_rng(0)), name: value}
    with pytest.raises(UserError, match=r"accepted|unknown"):
        space().normalise(values)


def test_the_budget_of_mixed_precision_can_be_searched() -> None:
    plain = [{"quantize": {"mixed": {"budget_bits": {"uniform": [3, 8]}, "choices": {"choice": [[2, 4, 8], [4, 8]]}}}}]
    assert recipe_problems(plain) == []
    searched = Space.from_plain(plain)
    assert [d.name for d in searched.dimensions] == ["quantize.mixed.budget_bits", "quantize.mixed.choices"]
    recipe = searched.recipe({"quantize.mixed.budget_bits": 4.5, "quantize.mixed.choices": [4, 8]})
    assert recipe.to_plain()[0]["quantize"]["mixed"] == {"budget_bits": 4.5, "budget_bytes": None, "choices": [4, 8]}
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    (problem,) = recipe_problems([{"quantize": {"mixed": {"budget_bit": {"uniform": [3, 8]}, "budget_bits": 4}}}])
    assert "did you mean 'budget_bits'?" in problem


def test_the_training_of_a_quantized_model_can_be_searched() -> None:
    plain = [
        {"quantize": {"weight_bits": {"choice": [4, 8]}}},
        {
            "optional": {
                "qat": {
                    "epochs": {"int": [1, 3]},
                    "learning_rate": {"loguniform": [1e-5, 1e-3]},
                    "temperature": {"uniform": [1, 8]},
                    "alpha": {"uniform": [0, 1]},
                    "optimizer": {"choice": ["adamw", "sgd"]},
                }
            }
        },
    ]
    assert recipe_problems(plain) == []
    space = Space.from_plain(plain)
    rng = np.random.default_rng(0)
    lengths = {len(space.recipe(space.sample(rng)).steps) for _ in range(20)}
    assert lengths == {1, 2}
    (problem,) = recipe_problems([{"optional": plain[0]}, plain[1]])
    assert problem == "recipe[1]: qat trains what quantize has made; accepted: a quantize step before it, in every candidate"
    assert recipe_problems([{"one_of": [plain[0], {"quantize": {"weight_bits": 8}}]}, plain[1]]) == []


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
def test_a_range_of_fractions_is_none_of_whole_numbers(kind: str) -> None:
    (problem,) = recipe_problems([{"optional": {"input_size": {"image": {kind: [16, 32]}}}}])
    assert problem == f"recipe[0].optional.input_size.image: a {kind} range has fractions; accepted: whole numbers, {{int: [16, 32]}}"
    assert recipe_problems([{"optional": {"input_size": {"image": {"int": [16, 32]}}}}]) == []
