from types import SimpleNamespace

import numpy as np
import pytest

from compressors.compressor import GraphEdit
from compressors.graph import trace
from compressors.graph.exits import Exits
from compressors.recipe import Recipe
from evaluators.exit_rates import ExitRates
from evaluators.metric import Estimate
from search.cache import Cache
from search.exit_beliefs import ExitBeliefs
from search.experiment import Experiment
from search.preparing import prepare
from search.proposals import Proposals
from search.record import TrialRecord
from search.stages import StageRunner
from tests.compressors.test_early_exit import TOKENS, bert

EARLY, LATE = Exits(("bert.encoder.layer.0",)), Exits(("bert.encoder.layer.4",))
DEVICE = "raspberry-pi-5/onnxruntime"


@pytest.fixture(scope="module")
def graph():
    return trace(bert(6), TOKENS, check_cuts=False)


def test_before_any_trial_later_and_less_careful_exits_are_believed_to_take_more(graph):
    beliefs = ExitBeliefs(SimpleNamespace(prepared=SimpleNamespace(graph=graph)))

    def beyond(exits, threshold):
        return beliefs.rates(exits, threshold).reached[1].value

    assert beyond(EARLY, 0.9) > beyond(LATE, 0.9)
    assert beyond(LATE, 0.9) > beyond(LATE, 0.5)
    assert beyond(EARLY, 1.0) == 1.0
    assert beyond(EARLY, 0.0) == 0.0
    both = beliefs.rates(Exits((*EARLY.after, *LATE.after)), 0.8)
    assert both.reached[0].value >= both.reached[1].value >= both.reached[2].value


def test_what_trials_have_shown_is_believed(graph):
    beliefs = ExitBeliefs(SimpleNamespace(prepared=SimpleNamespace(graph=graph)))
    beliefs.learn(ExitRates(EARLY, 0.8, (Estimate.exact(1.0), Estimate(0.3, 0.28, 0.32))))
    assert beliefs.rates(EARLY, 0.8).reached[1].value == pytest.approx(0.3, abs=0.05)
    assert beliefs.rates(EARLY, 0.2).reached[1].value > 0.6, "of a threshold that is far from it, it says little"


@pytest.fixture(scope="module")
def proposals(tmp_path_factory):
    recipe = "recipe=[{early_exit: {after: [stem], steps: 1, threshold: {uniform: [0, 1]}}}]"
    experiment = Experiment.load("quickstart", ["data.max_samples=100", "fit=null", f"devices=[{DEVICE}]", recipe, "constraints=[]"])
    runner = StageRunner(prepare(experiment, Cache(tmp_path_factory.mktemp("cache")), lambda _: None), Cache(tmp_path_factory.mktemp("stages")))
    quality = {"accuracy": Estimate(0.9, 0.8, 1.0), "loss": Estimate(0.1, 0.0, 0.2)}
    uncompressed = {**runner.price(Recipe()), **quality}
    smaller = {name: Estimate(0.5 * e.value, 0.5 * e.low, 0.5 * e.high, e.tier) for name, e in uncompressed.items()}
    return Proposals(experiment, runner, {"fp32": uncompressed, "half": smaller}, "fp32"), runner


def test_a_search_learns_what_exits_cost(proposals):
    proposing, runner = proposals
    (dimension,) = proposing._experiment.space.dimensions
    before = proposing._prices([{dimension.name: 0.5}])[0][f"latency_ms@{DEVICE}"].value
    values, recipe = proposing.next()
    rates = ExitRates.of(Exits(("stem",)), values[dimension.name], np.zeros(50, dtype=np.int64))
    edit = runner.plan(Recipe.from_plain(recipe))[-1]
    assert isinstance(edit, GraphEdit)
    metrics = {**runner.prepared.cost(edit, rates), "accuracy": Estimate(0.8, 0.7, 0.9), "loss": Estimate(0.1, 0.0, 0.2)}
    proposing.tell(TrialRecord("0001", recipe, "ok", metrics=metrics, values=values, candidate={"exits": rates.to_plain()}))
    near = proposing._prices([{dimension.name: values[dimension.name] + 1e-3 if values[dimension.name] < 0.5 else values[dimension.name] - 1e-3}])[0]
    assert near[f"latency_ms@{DEVICE}"].value == pytest.approx(metrics[f"latency_ms@{DEVICE}"].value, rel=0.1)
    assert before > metrics[f"latency_ms@{DEVICE}"].value
