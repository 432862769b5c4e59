from pathlib import Path

import pytest
import yaml

from compressors.errors import UserError
from compressors.recipe import Recipe, step_class, step_names

PLAIN = [
    {"prune": {"criterion": "l2", "ratio": {"channels": 0.5}, "exclude": "head.*"}},
    {"distill": {"epochs": 1, "temperature": 2.0, "alpha": 0.5}},
    {"quantize": {"weight_bits": 8, "activation_bits": 8}},
]


def test_plain_round_trip() -> None:
    recipe = Recipe.from_plain(PLAIN)
    assert Recipe.from_plain(recipe.to_plain()) == recipe
    assert [step.name for step in recipe.steps] == ["prune", "distill", "quantize"]


def test_file_round_trip(tmp_path: Path) -> None:
    recipe = Recipe.from_plain(PLAIN)
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe


def test_every_step_round_trips_its_defaults() -> None:
    needed = {
        "prune": {"ratio": 0.5},
        "prune_iteratively": {"ratio": 0.5, "recover": {"steps": 9}},
        "sparsify": {"ratio": 0.5},
        "sparse_train": {"steps": 4},
        "reconstruct": {},
        "low_rank": {"rank": 0.5},
        "depthwise_separable": {"fraction": 0.5},
        "local_attention": {"window": 8},
        "share_weights": {"every": 2},
        "distill": {"epochs": 1},
        "early_exit": {"after": ["body.0", 0.5], "epochs": 1},
        "equalize": {},
        "smooth": {},
        "quantize": {},
        "qat": {"epochs": 1},
        "trim_vocabulary": {},
        "input_size": {"scale": 0.5},
    }
    assert set(needed) == set(step_names())
    for name, config in needed.items():
        step = step_class(name).from_config(config)
        assert step_class(name).from_config(step.to_config()) == step


def test_fingerprint_depends_on_values_and_order_only() -> None:
    recipe = Recipe.from_plain(PLAIN)
    assert recipe.fingerprint == Recipe.from_plain(recipe.to_plain()).fingerprint
    assert recipe.fingerprint != Recipe.from_plain(PLAIN[1:]).fingerprint
    assert recipe.fingerprint != Recipe.from_plain([PLAIN[1], PLAIN[0], PLAIN[2]]).fingerprint


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(UserError) as caught:
        Recipe.from_plain([{"prune": {"ratio": 1.5}}, {"pruen": {}}, {"quantize": {"weight_bits": 5}}, {}])
    message = str(caught.value)
    assert "recipe[0].prune.ratio" in message
    assert "unknown step 'pruen'" in message
    assert "did you mean 'prune'?" in message
    assert "recipe[2].quantize.weight_bits" in message
    assert "recipe[3]" in message


@pytest.mark.parametrize("content", [None, "- 1", "recipe: 3", "recipe: []", "recipe_version: 99\nrecipe: []", "a: [", "recipe: !!python/object:os.system []"])
def test_bad_files_are_one_clear_error(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "recipe.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"recipe\.yaml"):
        Recipe.load(path)


def test_a_step_from_another_package_must_be_a_compressor() -> None:
    with pytest.raises(UserError, match="is not a Compressor"):
        step_class("pathlib:Path")
    with pytest.raises(UserError, match="cannot be imported"):
        step_class("no_such_package:Thing")


def test_recipe_file_is_plain_yaml(tmp_path: Path) -> None:
    Recipe.from_plain(PLAIN).save(tmp_path / "recipe.yaml")
    data = yaml.safe_load((tmp_path / "recipe.yaml").read_text())
    assert data["recipe_version"] == 1
    assert data["recipe"][0]["prune"]["ratio"] == {"channels": 0.5}


def test_nothing_but_quantize_and_qat_follows_quantize() -> None:
    with pytest.raises(UserError) as caught:
        Recipe.from_plain([{"quantize": {"include": "a"}}, {"quantize": {"include": "b"}}, {"prune": {"ratio": 0.5}}, {"distill": {"epochs": 1}}])
    assert str(caught.value).splitlines() == [
        f"recipe[{i}]: {name} stands after quantize (recipe[0]), whose result can be neither cut nor trained; accepted after quantize: quantize, qat"
        for i, name in ((2, "prune"), (3, "distill"))
    ]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"qat": {"epochs": 1}}], "recipe[0]: qat trains what quantize has made; accepted: a quantize step before it, in every candidate"),
        ([{"qat": {"epochs": 1}}, {"quantize": {}}], "recipe[0]: qat trains what quantize has made; accepted: a quantize step before it, in every candidate"),
        ([{"quantize": {}}, {"qat": {"epochs": 1}}, {"quantize": {}}], "recipe[2]: quantize stands after qat (recipe[1]), whose training it would undo"),
        ([{"quantize": {}}, {"qat": {"epochs": 1}}, {"prune": {"ratio": 0.5}}], "recipe[2]: prune stands after quantize (recipe[0])"),
        ([{"quantize": {}}, {"qat": {}}], "recipe[1].qat.: Value error, give either epochs or steps"),
    ],
)
def test_qat_stands_behind_quantize(steps: list[dict[str, object]], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Recipe.from_plain(steps)
    assert str(caught.value).startswith(message)
    assert len(Recipe.from_plain([{"quantize": {}}, {"qat": {"epochs": 1}}, {"qat": {"steps": 9}}]).steps) == 3
