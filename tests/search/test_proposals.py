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
    proposals = Proposals(experiment, SimpleNamespace(prepared=prepared, plan=lambda recipe: ()), {"fp32": UNCOMPRESSED}, "fp32")
    return proposals, experiment.space, found[0]


@pytest.mark.parametrize(("made", "cost"), [(4096.0, 12.0), (7000.0, float("nan"))], ids=["allowed", "too large"])
def test_a_point_that_was_run_costs_what_its_model_costs(known, made, cost):
    proposals, space, knowledge = known
    run, other = (space.sample(np.random.default_rng(i)) for i in range(2))
    assert knowledge.costs([run, other]) == pytest.approx(np.log2([[1000], [1000]]))
    metrics = {"size_bytes": Estimate.exact(made), "accuracy": Estimate(0.9, 0.88, 0.92)}
    proposals.tell(TrialRecord("0000", space.plain_recipe(run), "ok", metrics=metrics, values=run))
    assert knowledge.costs([run, other]) == pytest.approx(np.array([[cost], [np.log2(1000)]]), nan_ok=True)
