"""What cutting one axis costs, against the same cut made by a recipe."""

import glob
import math

import pytest
import torch

import search.sensitivity
from compressors.recipe import Recipe
from evaluators.metric import Estimate
from evaluators.tasks.quality import ACCURACY, LOSS
from search.cache import Cache
from search.experiment import Experiment
from search.preparing import prepare
from search.sensitivity import first_criterion, profile
from search.stages import StageRunner


def runner_of(folder, *overrides):
    torch.manual_seed(0)
    return StageRunner(prepare(Experiment.load("quickstart", overrides), Cache(folder), lambda _: None), Cache(folder))


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return runner_of(tmp_path_factory.mktemp("cache"), "fit.epochs=2")


@pytest.fixture(scope="module")
def found(runner):
    lines = []
    return profile(runner, "l2", lines.append), lines


def cut_by_recipe(runner, cut):
    return runner.run(Recipe.from_plain([{"prune": {"layers": {glob.escape(cut.axis.name): cut.share}}}])).metrics


def test_every_axis_is_cut_alone_by_every_share_with_a_line_each(runner, found):
    profiled, lines = found
    axes = [axis.name for axis in runner.prepared.graph.prunable]
    assert sorted((c.axis.name, c.share) for c in profiled.cuts) == sorted((name, share) for name in axes for share in (0.25, 0.5))
    assert [c.units for c in profiled.cuts if c.axis.name == "stem.0"] == [12, 8]
    assert [line.split()[0] for line in lines] == [f"{i + 1}/{2 * len(axes)}" for i in range(2 * len(axes))]


def test_the_loss_is_that_of_a_recipe_which_cuts_the_same(runner, found):
    profiled, _ = found
    before = runner.run(Recipe()).metrics
    assert profiled.baseline == before["accuracy"]
    assert (profiled.metric, profiled.split, profiled.examples) == (ACCURACY, "search", 500)
    for cut in profiled.cuts[:3]:
        after = cut_by_recipe(runner, cut)
        assert cut.lost.value == pytest.approx(before["accuracy"].value - after["accuracy"].value)
        assert (cut.parameters, cut.macs) == (after["parameters"].value, after["macs"].value)
        assert cut.lost.low <= cut.lost.value <= cut.lost.high


def test_intervals_compare_the_same_examples(runner, found):
    profiled, _ = found
    least = min((c for c in profiled.cuts if c.lost.value), key=lambda c: abs(c.lost.value))
    apart = [profiled.baseline, cut_by_recipe(runner, least)["accuracy"]]
    assert 0 < least.lost.high - least.lost.low < math.hypot(*(e.high - e.low for e in apart))


def test_the_axis_that_loses_most_comes_first(found):
    profiled, _ = found
    worst = [max(c.lost.value for c in profiled.cuts if c.axis is cut.axis) for cut in profiled.cuts]
    assert worst == sorted(worst, reverse=True)
    assert [c.share for c in profiled.cuts] == [0.25, 0.5] * (len(profiled.cuts) // 2)


def test_nothing_is_evaluated_a_second_time(runner, found, monkeypatch):
    def evaluates(model):
        raise AssertionError("a model is evaluated")

    monkeypatch.setattr(search.sensitivity, "module_predict", evaluates)
    again = StageRunner(runner.prepared, runner.cache)
    assert profile(again, "l2", lambda _: None) == found[0]


def test_more_is_worse_whatever_the_direction_of_the_metric(runner, monkeypatch, tmp_path):
    monkeypatch.setattr(runner.prepared.task, "quality", (LOSS, ACCURACY))
    other = StageRunner(runner.prepared, Cache(tmp_path))
    cut = profile(other, "l2", lambda _: None).cuts[0]
    before = other.run(Recipe()).metrics
    assert cut.lost.value == pytest.approx(cut_by_recipe(other, cut)["loss"].value - before["loss"].value)


def test_an_axis_too_small_for_a_share_and_outputs_that_are_not_finite_say_so(tmp_path):
    tiny = runner_of(tmp_path, "fit=null", "model.arguments={width: 2}")
    with torch.no_grad():
        tiny.prepared.model.head.bias.fill_(float("nan"))
    small = [axis for axis in tiny.prepared.graph.prunable if axis.size == 2]
    assert small
    with pytest.raises(search.sensitivity.TrialError, match="outputs on search are not finite"):
        profile(tiny, "l2", lambda _: None)
    with torch.no_grad():
        tiny.prepared.model.head.bias.zero_()
    cut = next(c for c in profile(tiny, "l2", lambda _: None).cuts if c.axis == small[0])
    assert (cut.share, cut.units, cut.lost, cut.parameters) == (0.25, 2, None, tiny.prepared.graph.parameters)
    assert cut.reason == "25% of 2 units is less than half a unit"


def test_plain_data_holds_every_figure(found):
    plain = found[0].to_plain()
    assert (plain["metric"], plain["criterion"], plain["split"]) == ("accuracy", "l2", "search")
    first = plain["cuts"][0]
    assert Estimate.from_plain(first["lost"]) == found[0].cuts[0].lost
    assert {"axis", "kind", "size", "share", "units", "parameters", "macs"} <= first.keys()


@pytest.mark.parametrize(
    ("recipe", "criterion"),
    [
        ("[{prune: {criterion: {choice: [taylor, l2]}, ratio: 0.5}}]", "taylor"),
        ("[{distill: {epochs: 1}}, {optional: {prune: {criterion: l1, ratio: 0.5}}}]", "l1"),
        ("[{prune: {ratio: 0.5}}, {prune: {criterion: l1, ratio: 0.5}}]", "l2"),
        ("[{quantize: {}}]", "l2"),
    ],
)
def test_the_criterion_is_the_first_of_the_recipe(recipe, criterion):
    assert first_criterion(Experiment.load("quickstart", [f"recipe={recipe}"])) == criterion
