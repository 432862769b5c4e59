import json

import numpy as np
import pytest

from compressors.errors import UserError
from compressors.recipe import Recipe
from evaluators.exit_rates import ExitRates
from search.cache import Cache
from search.check import check
from search.experiment import Experiment
from search.preparing import prepare
from search.stages import StageRunner

DEVICE = "raspberry-pi-5/onnxruntime"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    overrides = ["data.max_samples=300", "fit.epochs=2", f"devices=[{DEVICE}]", "constraints=[]"]
    return prepare(Experiment.load("quickstart", overrides), Cache(tmp_path_factory.mktemp("cache")), lambda _: None)


@pytest.fixture(scope="module")
def runner(prepared, tmp_path_factory):
    return StageRunner(prepared, Cache(tmp_path_factory.mktemp("stages")))


def recipe(threshold, *more):
    return Recipe.from_plain([{"early_exit": {"after": ["stem", "body.1"], "epochs": 3, "learning_rate": 0.01, "threshold": threshold}}, *more])


def test_another_threshold_is_evaluated_again_and_not_trained(runner):
    assert [s.name for s in runner.run(recipe(0.5)).stages if not s.cached] == ["early_exit", "evaluate"]
    assert [s.name for s in runner.run(recipe(0.6)).stages if not s.cached] == ["evaluate"]
    assert [s.name for s in runner.run(recipe(0.6)).stages if not s.cached] == []
    assert runner.key(recipe(0.5)) != runner.key(recipe(0.6))


def test_the_surer_an_exit_must_be_the_more_an_inference_costs(runner):
    found = [runner.run(recipe(threshold)) for threshold in (0.0, 0.4, 0.9, 1.0)]
    rates = [ExitRates.from_plain(json.loads(json.dumps(outcome.candidate["exits"]))) for outcome in found]
    assert rates[0].left == (1.0, 0.0, 0.0)
    assert [r.reached[1].value for r in rates] == sorted(r.reached[1].value for r in rates)
    for name in (f"latency_ms@{DEVICE}", f"energy_mj@{DEVICE}"):
        costs = [outcome.metrics[name].value for outcome in found]
        assert costs == sorted(costs)
        assert costs[0] < costs[-1]
    assert len({outcome.metrics["size_bytes"].value for outcome in found}) == 1
    assert found[0].metrics["parameters"].value > runner.run(Recipe()).metrics["parameters"].value


def test_costs_do_not_depend_on_whether_the_stage_was_computed(runner, prepared):
    once, again = runner.run(recipe(0.4)), StageRunner(prepared, runner.cache).run(recipe(0.4))
    assert once.metrics == again.metrics
    assert once.candidate == again.candidate


def test_a_quantized_model_keeps_its_exits(runner):
    outcome = runner.run(recipe(0.4, {"quantize": {"weight_bits": 8, "activation_bits": 8}}))
    plain = runner.run(recipe(0.4))
    assert outcome.metrics["size_bytes"].value < 0.5 * plain.metrics["size_bytes"].value
    reached = [[e["value"] for e in o.candidate["exits"]["reached"]] for o in (outcome, plain)]
    np.testing.assert_allclose(*reached, atol=0.1)
    assert abs(outcome.metrics["accuracy"].value - plain.metrics["accuracy"].value) < 0.1


def test_before_it_is_run_it_costs_what_an_input_does_that_never_leaves(runner):
    priced, whole = runner.price(recipe(0.4)), runner.run(recipe(1.0)).metrics
    assert priced[f"latency_ms@{DEVICE}"].value == pytest.approx(whole[f"latency_ms@{DEVICE}"].value)


def test_check_names_an_exit_that_is_not_there():
    experiment = Experiment.load("quickstart", ["data.max_samples=100", "recipe=[{early_exit: {after: [body.9], steps: 1}}]", f"devices=[{DEVICE}]"])
    with pytest.raises(UserError) as error:
        check(experiment)
    assert "recipe[0].early_exit.after: 'body.9' is no block that the model could exit after; such as: stem.0, stem.1" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


MODELS = """
from torch import nn


def net(outputs):
    return nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)], nn.Linear(4, outputs))
"""
TASKS = """
import dataclasses

from evaluators.tasks import make_task
from evaluators.tasks.array_task import ArrayTask


def mine(data, model, workload, folder):
    ours = model.model_copy(update={"task": "series-classification"})
    return dataclasses.replace(make_task(data, ours, workload, folder), name="mine")


class Doubled(ArrayTask):
    def loss(self, logits, batch):
        return 2 * super().loss(logits, batch)


def doubled(data, model, workload, folder):
    made = mine(data, model, workload, folder)
    return Doubled(**{field.name: getattr(made, field.name) for field in dataclasses.fields(made)})
"""


def columns_of(folder, task, outputs, label, metric, **more):
    """An experiment on four columns of numbers whose only step has an exit."""
    (folder / "models.py").write_text(MODELS)
    (folder / "tasks.py").write_text(TASKS)
    rng = np.random.default_rng(0)
    rows = [[*rng.normal(size=4).round(3), round(rng.normal(), 3), *rng.integers(0, 2, 2)] for _ in range(60)]
    (folder / "rows.csv").write_text("\n".join(["a,b,c,d,y,p,q", *(",".join(map(str, row)) for row in rows)]))
    plain = {
        "model": {"factory": "models.py:net", "arguments": {"outputs": outputs}, "task": task},
        "data": {"files": {"train": "rows.csv"}, "columns": {"series": ["a", "b", "c", "d"], "label": label}, "metrics": [metric]},
        "devices": [DEVICE],
        "objectives": [metric, "size_bytes"],
        "recipe": [{"early_exit": {"after": ["0"], "steps": 1}}],
        "search": {"trials": 1},
    }
    return Experiment.from_plain({**plain, **more}, folder=folder)


@pytest.mark.parametrize(
    ("task", "outputs", "label", "metric"),
    [("series-regression", 1, "y", "mse"), ("series-regression", 2, ["y", "a"], "mse"), ("series-multi-label", 2, ["p", "q"], "f1_micro")],
)
def test_a_task_without_classes_has_no_exits(tmp_path, task, outputs, label, metric):
    experiment = columns_of(tmp_path, task, outputs, label, metric)
    for act in (check, lambda e: prepare(e, Cache(tmp_path / "cache"), lambda _: None)):
        with pytest.raises(UserError) as error:
            act(experiment)
        assert str(error.value).startswith(
            f"recipe[0].early_exit: the outputs of {task} are no classes, one of which an exit could be sure of; accepted: a task of"
        )
        assert "\n" not in str(error.value)


def test_classes_and_a_task_of_ones_own_have_exits(tmp_path):
    assert check(columns_of(tmp_path, "series-classification", 2, "p", "accuracy"))
    assert check(columns_of(tmp_path, "tasks.py:mine", 2, "p", "accuracy"))


def test_labels_of_ones_own_task_are_smoothed_where_its_loss_is_that_of_classes(tmp_path):
    smooth = {"steps": 1, "label_smoothing": 0.1}
    assert check(columns_of(tmp_path, "tasks.py:mine", 2, "p", "accuracy", fit=smooth))
    with pytest.raises(UserError, match=r"fit.label_smoothing: 0.1 of mine, whose loss is no cross-entropy of classes; accepted: 0"):
        check(columns_of(tmp_path, "tasks.py:doubled", 2, "p", "accuracy", fit=smooth))


def test_a_threshold_that_a_search_could_take_out_of_its_range_is_one_error():
    with pytest.raises(UserError) as error:
        Experiment.load("quickstart", ["recipe=[{early_exit: {after: [stem], steps: 1, threshold: {uniform: [0.5, 1.5]}}}]"])
    assert "recipe[0].early_exit.threshold" in str(error.value)
    assert "less than or equal to 1" in str(error.value)
