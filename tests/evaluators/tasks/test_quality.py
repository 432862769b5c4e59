import pytest

import compareto as cp
from evaluators.model_spec import TASKS, ModelSpec
from evaluators.tasks.quality import METRICS, quality_metrics
from evaluators.tasks.specification import DataSpec


def named(task, metrics=()):
    return [m.name for m in quality_metrics(ModelSpec(factory="a.py:b", task=task), DataSpec(dataset="d", metrics=metrics))]


def test_every_task_has_a_main_metric_and_a_loss():
    assert len(TASKS) == 16
    assert {named(task)[-1] for task in TASKS} == {"loss"}
    assert {named(task)[0] for task in TASKS} == {"accuracy", "f1_micro", "mse", "psnr", "perplexity"}


def test_metrics_are_chosen_by_name_and_the_loss_stands_last():
    assert named("text-classification", ["matthews", "f1_macro"]) == ["matthews", "f1_macro", "loss"]
    assert named("series-classification", ["accuracy", "loss", "matthews"]) == ["accuracy", "matthews", "loss"]
    assert named("text-regression", [{"mean": ["pearson", "spearman"], "name": "sts"}, "mse"]) == ["sts", "mse", "loss"]


def test_a_users_metric_has_the_direction_that_is_said():
    own = {"function": "metrics.py:regret", "direction": "min", "unit": "ms"}
    metric, *_ = quality_metrics(ModelSpec(factory="a.py:b"), DataSpec(dataset="d", metrics=[own]))
    assert (metric.name, metric.direction, metric.unit) == ("regret", "min", "ms")


def test_metrics_of_a_users_task_are_named_as_ours_or_described():
    own = {"function": "tasks.py:mine", "direction": "min", "name": "regret"}
    assert named("tasks.py:mine", ["accuracy", own]) == ["accuracy", "regret", "loss"]
    assert named("tasks.py:mine", ["loss"]) == ["loss"]
    assert named("tasks.py:mine", [own | {"name": "mse"}]) == ["mse", "loss"]


@pytest.mark.parametrize("name", ["loss", "size_bytes", "average", "baseline", "latency_ms", "accuracy"])
@pytest.mark.parametrize("spec", [{"function": "metrics.py:{}", "direction": "min"}, {"mean": ["mse", "mae"], "name": "{}"}])
def test_a_metric_has_no_name_that_means_something_else(name, spec):
    spec = {key: value.format(name) if isinstance(value, str) else value for key, value in spec.items()}
    with pytest.raises(cp.UserError, match=f"data.metrics: the name '{name}' has a meaning already; accepted: name: any other than average, baseline, .*loss"):
        named("series-regression", ["mse", spec])


@pytest.mark.parametrize(
    ("task", "metrics", "said"),
    [
        ("series-classification", ["rouge_l"], "data.metrics: 'rouge_l' does not fit series-classification; accepted: accuracy, f1"),
        ("text-regression", ["accuracy"], "'accuracy' does not fit text-regression; accepted: mse, mae, r2, pearson, spearman"),
        ("causal-lm", ["blue"], "did you mean 'bleu'"),
        ("text-classification", ["accuracy", "accuracy"], "'accuracy' is named twice"),
        ("text-regression", [{"mean": ["mse", "pearson"]}], "a mean of mse, pearson has no direction"),
        ("text-regression", [{"mean": ["f1", "pearson"]}], "'f1' does not fit text-regression"),
        ("text-regression", [{"mean": ["mse", "loss"]}], "the mean 'mean' has the loss in it; accepted: mse, mae"),
        ("tasks.py:mine", [], "data.metrics: missing; the task 'tasks.py:mine' is your own"),
    ],
)
def test_a_metric_that_does_not_fit_is_one_message(task, metrics, said):
    with pytest.raises(cp.UserError) as caught:
        named(task, metrics)
    assert said in str(caught.value)


def test_an_unknown_task_is_told_with_what_is_known():
    with pytest.raises(ValueError, match=r"unknown task 'text-classifcation'.*did you mean 'text-classification'"):
        ModelSpec(factory="a.py:b", task="text-classifcation")


def test_every_metric_can_be_computed():
    from evaluators.tasks.measures.measuring import measures_of
    from evaluators.tasks.measures.texts import TEXTS

    computed = 0
    for kind, metrics in METRICS.items():
        names = [m.name for m in metrics if m.name not in ("loss", "perplexity")]
        computed += len({name for name in names if name in TEXTS} if kind in ("causal-lm", "seq2seq") else measures_of(names, kind, None))
    assert computed == sum(len(metrics) for metrics in METRICS.values()) - len(METRICS) - 2


def test_an_average_of_accuracies_is_one_and_one_of_different_metrics_is_not():
    def metrics(**parts):
        model = ModelSpec(factory="a.py:b", task="text-classification")
        return quality_metrics(model, DataSpec(dataset="d", parts={name: {"metrics": given} for name, given in parts.items()}))

    same = metrics(news=["accuracy"], chat=["accuracy", "f1_macro"])
    assert {m.name: m.is_accuracy for m in same if m.name != "chat.loss"} == {
        "average": True, "news.accuracy": True, "news.loss": False, "chat.accuracy": True, "chat.f1_macro": False,
    }  # fmt: skip
    assert not metrics(news=["accuracy"], chat=["matthews"])[0].is_accuracy
