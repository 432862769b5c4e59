import numpy as np
import pytest

from search.space import Space
from search.space_inverse import point_of

PLAIN = [
    {"prune": {"criterion": {"choice": ["l2", "taylor"]}, "ratio": {"channels": {"uniform": [0.1, 0.7]}}, "exclude": ["head.*"]}},
    {"optional": {"distill": {"steps": {"int": [4, 40]}}}},
    {"one_of": [{"low_rank": {"rank": {"uniform": [0.2, 0.8]}}}, {"distill": {"steps": 8, "temperature": 2.0}}]},
    {"optional": {"quantize": {"weight_bits": {"choice": [4, 8]}}}},
]


@pytest.fixture(scope="module")
def space():
    return Space.from_plain(PLAIN)


def test_every_point_is_found_again_from_its_recipe(space):
    rng = np.random.default_rng(0)
    kinds = set()
    for _ in range(40):
        point = space.sample(rng)
        kinds.add(len(point))
        assert point_of(space, space.recipe(point).to_plain()) == point
    assert len(kinds) > 2, "with and without what is optional"


def test_a_wider_space_holds_the_points_of_a_narrower_one(space):
    prune = {"prune": {"criterion": "l2", "ratio": {"channels": 0.5}, "exclude": ["head.*"]}}
    narrow = Space.from_plain([prune, {"distill": {"steps": 8, "temperature": 2.0}}])
    point = point_of(space, narrow.recipe({}).to_plain())
    assert point == {"prune.criterion": "l2", "prune.ratio.channels": 0.5, "optional.distill": False, "one_of": "distill", "optional.quantize": False}


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        [{"prune": {"criterion": "l2", "ratio": {"channels": 0.9}, "exclude": ["head.*"]}}, {"distill": {"steps": 8, "temperature": 2.0}}],
        [{"prune": {"criterion": "l1", "ratio": {"channels": 0.5}, "exclude": ["head.*"]}}, {"distill": {"steps": 8, "temperature": 2.0}}],
        [{"prune": {"criterion": "l2", "ratio": {"channels": 0.5}}}, {"distill": {"steps": 8, "temperature": 2.0}}],
        [{"prune": {"criterion": "l2", "ratio": {"channels": 0.5}, "exclude": ["head.*"]}}, {"distill": {"steps": 9, "temperature": 2.0}}],
        [{"prune": {"criterion": "l2", "ratio": {"channels": 0.5}, "exclude": ["head.*"]}}],
        [{"distill": {"steps": 8, "temperature": 2.0}}, {"quantize": {"weight_bits": 8}}],
    ],
    ids=["nothing", "out of range", "no choice", "fixed pattern", "fixed setting", "step missing", "other step"],
)
def test_what_is_no_point_has_none(space, recipe):
    from compressors.recipe import Recipe

    assert point_of(space, Recipe.from_plain(recipe).to_plain()) is None
