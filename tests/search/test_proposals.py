from types import SimpleNamespace

import numpy as np
import pytest

from evaluators.metric import Estimate
from search.experiment import Experiment
from search.proposals import Proposals
from search.record import TrialRecord

PLANNED = {"size_bytes": Estimate.exact(1000.0)}
UNCOMPRESSED = {"size_bytes": Estimate.exact(8000.0), "accuracy": Estimate(0.98, 0.97, 0.99)}


@pytest.fixture
def known(monkeypatch):
    """Proposals for an experiment of accuracy and size in which every recipe is planned to have 1000 bytes, and what its algorithm knows of costs."""
    found = []
    monkeypatch.setattr("search.proposals.algorithm_named", lambda *a: found.append(a[-1]) or SimpleNamespace(tell=lambda *_: None))
    experiment = Experiment.load("quickstart", ["objectives=[accuracy, size_bytes]", "constraints=['size_bytes <= 6000']"])
    graph = SimpleNamespace(axes=(), sites=())
    prepared = SimpleNamespace(graph=graph, devices={}, costs=lambda shapes: [PLANNED] * len(shapes))
    proposals = Proposals(experiment, SimpleNamespace(prepared=prepared, plan=lambda recipe: (), at=lambda recipe: prepared), {"fp32": UNCOMPRESSED}, "fp32")
    return proposals, experiment.space, found[0]


@pytest.mark.parametrize(("made", "cost"), [(4096.0, 12.0), (7000.0, float("nan"))], ids=["allowed", "too large"])
def test_a_point_that_was_run_costs_what_its_model_costs(known, made, cost):
    proposals, space, knowledge = known
    run, other = (space.sample(np.random.default_rng(i)) for i in range(2))
    assert knowledge.costs([run, other]) == pytest.approx(np.log2([[1000], [1000]]))
    metrics = {"size_bytes": Estimate.exact(made), "accuracy": Estimate(0.9, 0.88, 0.92)}
    proposals.tell(TrialRecord("0000", space.plain_recipe(run), "ok", metrics=metrics, values=run))
    assert knowledge.costs([run, other]) == pytest.approx(np.array([[cost], [np.log2(1000)]]), nan_ok=True)


@pytest.fixture
def told(monkeypatch):
    """Proposals of a known-cost search for the same experiment, and what its algorithm was told."""
    experiment = Experiment.load("quickstart", ["objectives=[size_bytes, accuracy]", "constraints=[]"])
    graph = SimpleNamespace(axes=(), sites=())
    prepared = SimpleNamespace(graph=graph, devices={}, costs=lambda shapes: [PLANNED] * len(shapes))
    proposals = Proposals(experiment, SimpleNamespace(prepared=prepared, plan=lambda recipe: (), at=lambda recipe: prepared), {"fp32": UNCOMPRESSED}, "fp32")
    heard = []
    monkeypatch.setattr(proposals._algorithm, "tell", lambda values, objectives, std=None: heard.append((objectives, std)))
    return proposals, experiment.space, heard


def test_a_stopped_trial_is_told_as_what_it_is_expected_to_come_to_and_holds_no_place_on_the_front(told):
    proposals, space, heard = told
    values = space.sample(np.random.default_rng(0))
    metrics = {"size_bytes": Estimate.exact(1000.0), "accuracy": Estimate(0.3, 0.2, 0.4)}
    stopped = TrialRecord("0001", space.plain_recipe(values), "stopped", metrics=metrics, values=values, rung=1 / 3)
    proposals.tell(stopped, (0.9, 0.02))
    ((objectives, std),) = heard
    assert (objectives[1], std) == (0.9, 0.02)
    assert np.isnan(proposals._algorithm._known.costs([values])).all()
    proposals.tell(stopped)
    proposals.tell(TrialRecord("0002", stopped.recipe, "ok", metrics=metrics, values=values, rung=1 / 3))
    assert heard[1:] == [(None, None)] * 2, "what a part of the budget gave is no quality"


def test_points_that_differ_only_in_their_training_are_planned_once(monkeypatch):
    monkeypatch.setattr("search.proposals.algorithm_named", lambda *a: knowledge.append(a[-1]))
    knowledge, planned = [], []
    experiment = Experiment.load("quickstart", ["objectives=[accuracy, size_bytes]", "constraints=[]"])
    prepared = SimpleNamespace(graph=SimpleNamespace(axes=(), sites=()), devices={}, costs=lambda shapes: [PLANNED] * len(shapes))
    Proposals(
        experiment,
        SimpleNamespace(prepared=prepared, plan=lambda recipe: planned.append(recipe) or (), at=lambda recipe: prepared),
        {"fp32": UNCOMPRESSED},
        "fp32",
    )
    point = experiment.space.sample(np.random.default_rng(0))
    points = [point, {**point, "distill.temperature": 2.0}, {**point, "distill.alpha": 0.5}, {**point, "prune.ratio.channels": 0.123}]
    for _ in range(2):
        assert len(knowledge[0].costs(points)) == 4
    assert len(planned) == 2
