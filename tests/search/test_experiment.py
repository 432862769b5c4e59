import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from compressors.errors import UserError
from search.experiment import Experiment

PLAIN: dict[str, Any] = {
    "model": {"factory": "models.py:digits_cnn"},
    "data": {"dataset": "sklearn/digits"},
    "workload": {"batch": 1},
    "devices": ["raspberry-pi-5/onnxruntime", "x86-server-core/onnxruntime"],
    "objectives": ["accuracy", "latency_ms@raspberry-pi-5", "size_bytes"],
    "constraints": ["accuracy >= baseline - 0.05", "peak_memory_bytes@raspberry-pi-5 <= 50MB"],
    "recipe": [
        {"prune": {"criterion": {"choice": ["l2", "taylor"]}, "ratio": {"channels": {"uniform": [0.0, 0.8]}}}},
        {"optional": {"distill": {"epochs": 2, "temperature": {"uniform": [1, 8]}}}},
        {"quantize": {"weight_bits": {"choice": [4, 8, 16]}, "activation_bits": 8}},
    ],
    "search": {"trials": 48, "seed": 0},
}


def changed(**sections: Any) -> dict[str, Any]:
    plain = copy.deepcopy(PLAIN)
    for place, value in sections.items():
        node: Any = plain
        *parents, last = place.split("__")
        for key in parents:
            node = node[int(key) if key.isdigit() else key]
        node[int(last) if last.isdigit() else last] = value
    return plain


def problems(plain: dict[str, Any]) -> str:
    with pytest.raises(UserError) as caught:
        Experiment.from_plain(plain)
    return str(caught.value)


def test_abbreviations_are_resolved() -> None:
    experiment = Experiment.from_plain(PLAIN)
    assert experiment.objectives == ("accuracy", "latency_ms@raspberry-pi-5/onnxruntime", "size_bytes")
    assert [metric.direction for _, metric in experiment.objective_metrics] == ["max", "min", "min"]
    assert experiment.parsed_constraints[1].names == ("peak_memory_bytes@raspberry-pi-5/onnxruntime",)
    assert experiment.target == "onnxruntime"
    assert experiment.space.dimensions[0].name == "prune.criterion"


def test_what_a_study_freezes_reads_back_the_same() -> None:
    experiment = Experiment.from_plain(PLAIN, folder=Path("/somewhere"), name="mine")
    again = Experiment.from_plain(yaml.safe_load(experiment.to_yaml()))
    assert again == experiment
    assert (again.name, again.folder) == ("mine", Path("/somewhere"))
    assert again.fingerprint == Experiment.from_plain(PLAIN, folder=Path("/elsewhere"), name="mine").fingerprint
    assert again.fingerprint != Experiment.from_plain(changed(search__seed=1), name="mine").fingerprint


def test_files_are_read_with_overrides_and_paths_start_beside_them(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(PLAIN))
    experiment = Experiment.load(tmp_path / "mine.yaml", ["search.trials=4", "recipe[2].quantize.weight_bits=8"])
    assert (experiment.name, experiment.folder) == ("mine", tmp_path.resolve())
    assert experiment.search.trials == 4
    assert experiment.recipe[2] == {"quantize": {"weight_bits": 8, "activation_bits": 8}}


def test_the_quickstart_comes_with_the_package() -> None:
    experiment = Experiment.load("quickstart")
    assert experiment.name == "quickstart"
    assert experiment.search.trials == 48


def test_one_budget_at_a_time() -> None:
    assert Experiment.from_plain(changed(search={})).search.trials == 48
    assert Experiment.from_plain(changed(search={"hours": 0.5})).search.trials is None
    assert "the budget is given as trials and hours" in problems(changed(search={"trials": 4, "hours": 1}))


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        (changed(modle={}), "modle: unknown key 'modle'; accepted: model, data,"),
        (changed(modle={}), "did you mean 'model'?"),
        (changed(data__datset=1), "data.datset: unknown key 'datset'"),
        (changed(search__trials="many"), "search.trials: 'many' is not accepted; accepted: a valid integer"),
        (changed(search__trials=0), "search.trials: 0 is not accepted; accepted: greater than 0"),
        (
            changed(search__algorithm="nsga"),
            "search.algorithm: 'nsga' is not accepted; accepted: 'auto', 'random', 'grid', 'nsga2', 'tpe' or 'gp'; did you mean 'nsga2'?",
        ),
        (changed(workload__batch="big"), "workload.batch: 'big' is not accepted"),
        (
            changed(recipe__0__prune__ratio={"channels": {"uniform": [0.8, 0.0]}}),
            "recipe[0].prune.ratio.channels: low 0.8 is above high 0.0; accepted: low <= high",
        ),
        (
            changed(recipe__0__prune__ratio={"channels": {"uniform": [0.0, 1.5]}}),
            "recipe[0].prune.ratio: the ratio of channels must be a number in [0, 1), got 1.5",
        ),
        (changed(recipe__0__prune__critereon="l2"), "recipe[0].prune.critereon: unknown key 'critereon'"),
        (changed(recipe__0__prune__critereon="l2"), "did you mean 'criterion'?"),
        (changed(recipe__0__prune__criterion={"choice": ["l2", "l3"]}), "recipe[0].prune.criterion: 'l3' is not accepted"),
        (changed(recipe__2={"quantise": {}}), "recipe[2]: unknown step 'quantise'"),
        (changed(recipe__2={"quantise": {}}), "did you mean 'quantize'?"),
        (changed(recipe__1={"optinal": {"quantize": {}}}), "did you mean 'optional'?"),
        (
            changed(recipe__1={"optional": {"distill": {"epochs": 1, "alpha": 2}}}),
            "recipe[1].optional.distill.alpha: must be in [0, 1], from start to end, got 2",
        ),
        (changed(recipe=[]), "recipe: [] has no step"),
        (changed(recipe="prune"), "recipe: 'prune' is not accepted"),
        (changed(devices__0="raspbery-pi-5"), "devices[0]: "),
        (changed(devices__0="raspbery-pi-5"), "did you mean 'raspberry-pi-5"),
        (changed(devices__0="raspberry-pi-5/tensorrt"), "tensorrt"),
        (changed(devices__1="raspberry-pi-5"), "devices[1]: 'raspberry-pi-5' is listed twice"),
        (changed(target="onxruntime"), "target: "),
        (changed(objectives__0="acuracy"), "objectives[0]: unknown metric 'acuracy'"),
        (changed(objectives__0="acuracy"), "did you mean 'accuracy'?"),
        (changed(objectives__1="latency_ms@a100"), "objectives[1]: device 'a100' is not listed under devices"),
        (changed(objectives__1="accuracy"), "objectives[1]: 'accuracy' is listed twice"),
        (
            changed(objectives__1="ttft_ms"),
            "objectives[1]: 'ttft_ms' is predicted of language models that generate (model.task: causal-lm); accepted here: latency",
        ),
        (changed(workload__prompt_tokens=64), "workload.prompt_tokens: the model does not generate; only those of model.task 'causal-lm' have a prompt"),
        (
            changed(data__metrics=[{"function": "metrics.py:regret", "direction": "min", "name": "My Metric (x)"}]),
            "data.metrics[0].name: a name is of small letters, digits and _, a letter first, got 'My Metric (x)'",
        ),
        (
            changed(data__metrics=[{"mean": ["f1_macro", "matthews"], "name": "both\n"}]),
            "data.metrics[0].name: a name is of small letters, digits and _, a letter first, got 'both\\n'",
        ),
        (
            changed(data__metrics=[{"function": "metrics.py:regret (x)", "direction": "min"}]),
            "data.metrics[0].function: 'metrics.py:regret (x)' is not accepted",
        ),
        (
            changed(fit={"epochs": 1, "label_smoothing": 0.1}, model__task="image-regression"),
            "fit.label_smoothing: 0.1 is for labels that are classes; accepted for model.task 'image-regression': 0",
        ),
        (changed(objectives=[]), "objectives: [] has no objective"),
        (changed(constraints__0="accuracy >= 5 MB"), "constraints[0]: unit 'MB'"),
        (changed(constraints__0="latency_ms@a100 < 5"), "constraints[0]: device 'a100' is not listed"),
        ({k: v for k, v in PLAIN.items() if k != "recipe"}, "recipe: missing"),
    ],
)
def test_each_problem_says_place_value_and_what_is_accepted(plain: dict[str, Any], said: str) -> None:
    assert said in problems(plain)


def test_every_problem_is_reported_at_once() -> None:
    plain = changed(modle={}, search__trials="many", objectives__0="acuracy", constraints__0="nonsense", workload__batch=0)
    plain["recipe"] = [{"prune": {"ratio": {"uniform": [1, 0]}, "critereon": "l2"}}, {"quantise": {}}, {"quantize": {"weight_bits": {"choice": [5, 6]}}}]
    message = problems(plain)
    for place in ("modle:", "search.trials:", "objectives[0]:", "constraints[0]:", "workload.batch:", "recipe[0].prune.ratio:", "recipe[0].prune.critereon:"):
        assert place in message
    for place in ("recipe[1]:", "recipe[2].quantize.weight_bits: 5", "recipe[2].quantize.weight_bits: 6"):
        assert place in message


@pytest.mark.parametrize("text", ["- 1", "3", ""])
def test_a_file_that_holds_something_else(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UserError, match="is not an experiment"):
        Experiment.load(tmp_path / "x.yaml")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "resnet20.yaml").write_text("")
    with pytest.raises(UserError, match=r"did you mean '.*resnet20.yaml'"):
        Experiment.load(tmp_path / "resnet2.yaml")
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        Experiment.load("quickstrat")


def test_assets_that_are_not_there_are_listed(tmp_path: Path) -> None:
    plain = changed(model__weights="assets/weights.safetensors")
    experiment = Experiment.from_plain(plain, folder=tmp_path)
    assert experiment.missing_assets() == (tmp_path / "assets/weights.safetensors",)
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets/weights.safetensors").touch()
    assert experiment.missing_assets() == ()
