"""What one weight costs at each width, as ``trace --sensitivity`` shows it."""

import json

import numpy as np
import pytest
import torch

from compressors.compressor import GraphEdit
from compressors.quantization import Quantize
from compressors.quantization.assignment import assign
from compressors.quantization.mixed import alternatives
from compressors.recipe import Recipe
from search.bit_sensitivity import bit_profile, first_quantization
from search.cache import Cache
from search.experiment import Experiment
from search.preparing import prepare
from search.stages import StageRunner


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    torch.manual_seed(0)
    cache = Cache(tmp_path_factory.mktemp("cache"))
    return StageRunner(prepare(Experiment.load("quickstart", ["fit.epochs=1", "data.max_samples=400"]), cache, lambda _: None), cache)


def test_every_weight_loses_more_in_fewer_bits_and_the_worst_comes_first(runner):
    found = bit_profile(runner, Quantize(granularity=32))
    graph = runner.prepared.graph
    assert sorted(site.name for site in found.sites) == sorted(site.name for site in graph.sites)
    assert found.bits == (2, 4, 8)
    for site in found.sites:
        losses = list(site.lost.values())
        assert losses == sorted(losses, reverse=True)
        assert losses[0] > 0
        assert (2 in site.lost) is (site.operator == "linear"), "ONNX Runtime reads 2 bits in groups only, and convolutions have none"
    fours = [site.lost[4] for site in found.sites]
    assert fours == sorted(fours, reverse=True)
    assert sum(site.elements for site in found.sites) < graph.parameters


def test_it_is_the_table_that_mixed_precision_is_assigned_from(runner, monkeypatch):
    step = Quantize(mixed={"budget_bits": 5})
    found = bit_profile(runner, step)
    (criterion,) = step.criteria()
    scores = runner.score(criterion)
    assert all(list(site.lost.values()) == scores[site.name][np.isfinite(scores[site.name])].tolist() for site in found.sites)
    monkeypatch.setattr("search.stages.scores_of", None)
    assert bit_profile(StageRunner(runner.prepared, runner.cache), Quantize()) == found, "measured once for all budgets"


def test_plain_data_is_json(runner):
    plain = json.loads(json.dumps(bit_profile(runner, Quantize()).to_plain(), allow_nan=False))
    assert (plain["granularity"], plain["symmetric"], plain["target"], plain["unit"]) == ("channel", True, "onnxruntime", "nats")
    assert set(plain["sites"][0]) == {"name", "operator", "elements", "lost"}
    assert set(plain["sites"][0]["lost"]) == {"4", "8"}


@pytest.mark.parametrize(
    ("recipe", "granularity"),
    [("[{quantize: {granularity: {choice: [64, 32]}, mixed: {budget_bits: {uniform: [4, 8]}}}}]", 32), ("[{prune: {ratio: 0.5}}]", "channel")],
)
def test_the_way_to_quantize_is_that_of_the_recipe(recipe, granularity):
    assert first_quantization(Experiment.load("quickstart", [f"recipe={recipe}"])).granularity == granularity


def test_the_table_serves_a_budget_of_latency_too(runner):
    """Which weights stay float, where the rest runs in integers: costs of a device on what the alternatives are."""
    prepared, step = runner.prepared, Quantize(mixed={"budget_bits": 8})
    graph, device = prepared.graph, next(iter(prepared.devices.values()))
    scores = runner.score(*step.criteria())
    choices, sites = (8, 32), range(len(graph.sites))
    losses = np.array([[scores[graph.sites[i].name][3], 0] for i in sites])
    rows = alternatives(graph, step.plan(graph, {step.criteria()[0]: scores}, GraphEdit.identity(graph)), [(i,) for i in sites], choices)
    ms = device.cost(graph, rows)["latency_ms"].value
    costs = (ms[1:] - ms[0]).reshape(len(sites), 2)
    budget = ms[0] + costs.max(1).sum() / 2
    chosen = assign(losses, costs, budget - ms[0])
    assert 0 < chosen.sum() < len(sites)
    overrides = {graph.sites[i].name: {"weight_bits": choices[chosen[i]]} for i in sites}
    (edit,) = runner.plan(Recipe.from_plain([{"quantize": {"overrides": overrides}}]))
    assert device.cost(graph, edit.shapes(graph))["latency_ms"].value[0] <= budget
