from pathlib import Path

import pytest
import torch

from compressors.errors import UserError
from compressors.recipe import Recipe
from search.cache import Cache
from search.check import check
from search.experiment import Experiment
from search.preparing import prepare
from search.space import Space
from search.stages import StageRunner

MODELS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8, classes=10, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(1, width, 3, padding=1)
        self.head = nn.Linear(width, classes)

    def forward(self, image):
        return self.head(torch.relu(self.stem(image)).mean((2, 3)))


def student():
    return Net()


def teacher(width=16, classes=10, seed=1):
    return Net(width, classes, seed)
"""


def experiment(folder: Path, **distill: object) -> Experiment:
    (folder / "models.py").write_text(MODELS)
    plain = {
        "model": {"factory": "models.py:student"},
        "data": {"dataset": "sklearn/digits", "max_samples": 60},
        "devices": ["raspberry-pi-5/onnxruntime"],
        "objectives": ["accuracy", "size_bytes"],
        "recipe": [{"distill": {"steps": 2, **distill}}],
        "search": {"trials": 1},
    }
    return Experiment.from_plain(plain, folder=folder)


TEACHER = {"factory": "models.py:teacher"}


def trained(folder: Path, cache: Path, **distill: object) -> tuple[str, torch.Tensor]:
    runner = StageRunner(prepare(experiment(folder, **distill), Cache(cache), lambda _: None), Cache(cache))
    recipe = Recipe.from_plain(runner.prepared.experiment.recipe)
    return runner.key(recipe), runner.model(recipe).get_parameter("head.weight")


def test_another_teacher_is_another_training_and_part_of_the_stages_key(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    found = [trained(tmp_path, cache, **extra) for extra in ({}, {"teacher": TEACHER}, {"teacher": {**TEACHER, "arguments": {"seed": 2}}})]
    again = trained(tmp_path, cache, teacher=TEACHER)
    assert again[0] == found[1][0]
    assert torch.equal(again[1], found[1][1])
    for i, (key, weight) in enumerate(found):
        assert all(key != other and not torch.equal(weight, value) for other, value in found[i + 1 :])
    # Other weights under the same name are another teacher.
    (tmp_path / "models.py").write_text(MODELS.replace("seed=1", "seed=3"))
    runner = StageRunner(prepare(changed(tmp_path), Cache(cache), lambda _: None), Cache(cache))
    assert runner.key(Recipe.from_plain(runner.prepared.experiment.recipe)) != again[0]


def changed(folder: Path) -> Experiment:
    text = (folder / "models.py").read_text()
    made = experiment(folder, teacher=TEACHER)
    (folder / "models.py").write_text(text)
    return made


@pytest.mark.parametrize(
    ("distill", "message"),
    [
        (
            {"teacher": {**TEACHER, "arguments": {"classes": 7}}},
            r"recipe\[0\]\.distill\.teacher: its outputs are \[1, 7\], the student's \[1, 10\]; accepted: a teacher of the same task",
        ),
        ({"teacher": {"factory": "models.py:tutor"}}, r"distill\.teacher\.factory: .* has no function 'tutor'"),
        ({"teacher": {"pretrained": "nowhere/at-all"}}, r"recipe\[0\]\.distill\.teacher\.pretrained: 'nowhere/at-all' is no folder here"),
        ({"teacher": {"pretrain": "x"}}, r"unknown key 'pretrain'; accepted: pretrained, .*did you mean 'pretrained'"),
        ({"features": {"layers": ["stam"]}}, r"distill\.features\.layers: 'stam' is no module of the model; did you mean 'stem'"),
        ({"teacher": TEACHER, "features": {"layers": {"stem": "trunk"}}}, r"'trunk' is no module of the teacher"),
        ({"attention": {}}, r"recipe\[0\]\.distill\.attention: no module of the student returns attention probabilities"),
        ({"attention": {"layers": ["head"]}}, r"attention: head gives no map to match, but float32 \[1, 10\]"),
    ],
)
def test_check_says_what_is_wrong_with_a_teacher_or_a_map(tmp_path: Path, distill: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(experiment(tmp_path, **distill))


def test_check_accepts_maps_of_a_wider_teacher(tmp_path: Path) -> None:
    assert check(experiment(tmp_path, teacher=TEACHER, features={"layers": ["stem"]}, attention={"layers": ["stem"], "weight": {"uniform": [0.1, 2]}}))


def test_a_teacher_may_call_its_input_by_another_name(tmp_path: Path) -> None:
    import transformers

    size = {"hidden_sizes": [8], "depths": [1], "embedding_size": 8, "layer_type": "basic", "num_channels": 1, "num_labels": 10}
    transformers.ResNetForImageClassification(transformers.ResNetConfig(**size)).save_pretrained(tmp_path / "tutor")
    other = trained(tmp_path, tmp_path / "cache", teacher={"pretrained": "tutor"})[1]
    assert not torch.equal(other, trained(tmp_path, tmp_path / "cache")[1])


def test_a_pretrained_model_without_a_head_for_the_task_is_no_teacher(tmp_path: Path) -> None:
    import transformers

    size = {"hidden_sizes": [8], "depths": [1], "embedding_size": 8, "layer_type": "basic", "num_channels": 1}
    transformers.ResNetModel(transformers.ResNetConfig(**size)).save_pretrained(tmp_path / "body")
    with pytest.raises(UserError, match=r"teacher\.pretrained: 'body' is a ResNetModel; accepted: a ResNetForImageClassification"):
        check(experiment(tmp_path, teacher={"pretrained": "body"}))


def test_schedules_of_ranges_are_dimensions() -> None:
    temperature = {"start": {"uniform": [4, 8]}, "end": {"choice": [1, 2]}, "schedule": {"choice": ["linear", "cosine"]}}
    space = Space.from_plain([{"distill": {"steps": 2, "temperature": temperature, "alpha": {"start": 1, "end": {"uniform": [0, 1]}}}}])
    names = ["distill.temperature.start", "distill.temperature.end", "distill.temperature.schedule", "distill.alpha.end"]
    assert [dimension.name for dimension in space.dimensions] == names
    values = {names[0]: 6.0, names[1]: 2, names[2]: "cosine", names[3]: 0.25}
    assert space.decode(space.encode(values)) == values
    step = space.recipe(values).steps[0]
    assert (step.temperature.start, step.temperature.end, step.temperature.schedule, step.alpha.end) == (6, 2, "cosine", 0.25)


def test_a_point_is_found_again_in_the_recipe_that_it_makes() -> None:
    from search.space_inverse import point_of

    space = Space.from_plain([{"distill": {"steps": 2, "temperature": {"start": {"uniform": [4, 8]}, "end": 1}}}])
    recipe = space.recipe({"distill.temperature.start": 5.5})
    assert point_of(space, recipe.to_plain()) == {"distill.temperature.start": 5.5}


@pytest.mark.parametrize(
    ("temperature", "message"),
    [
        ({"start": {"uniform": [4, 8]}, "end": {"uniform": [0, 1]}}, r"distill\.temperature: .*above 0"),
        ({"start": 4}, r"distill\.temperature\.end: missing"),
        ({"start": 4, "end": 1, "schedule": "cosinus"}, r"distill\.temperature\.schedule: .*'linear' or 'cosine'.*did you mean 'cosine'"),
        ({"begin": 4, "end": 1}, r"unknown key 'begin'; accepted: start, end, schedule"),
    ],
)
def test_a_malformed_schedule_is_one_clear_error(tmp_path: Path, temperature: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        experiment(tmp_path, temperature=temperature)
