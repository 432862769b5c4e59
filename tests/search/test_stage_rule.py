import numpy as np

import compareto
from search.algorithms.cost_problem import flat_space
from search.algorithms.encoding import Encoding
from search.algorithms.stage_rule import StageRule

SPACE = {"ratio": {"uniform": [0.0, 0.9]}, "rate": {"uniform": [0.0, 1.0]}, "bits": {"choice": [4, 8, 16]}}


def stages(candidates):
    return [[(f"training {c['ratio']} {c['rate']}", 0.9), (f"variant {c}", 0.1)] for c in candidates]


def costs(candidates):
    return {"size": [(1 - c["ratio"]) * c["bits"] for c in candidates]}


def quality(c):
    return 0.9 - 0.5 * c["ratio"] ** 2 - 0.1 * (c["rate"] - 0.4) ** 2 - {4: 0.06, 8: 0.01, 16: 0.0}[c["bits"]]


def trainings(found):
    return len({(c["ratio"], c["rate"]) for c in found})


def test_variants_of_what_was_evaluated_are_cheap():
    encoding = Encoding(flat_space(SPACE))
    rule = StageRule(stages, encoding, 0)
    point, other = {"ratio": 0.5, "rate": 0.5, "bits": 8}, {"ratio": 0.4, "rate": 0.5, "bits": 8}
    assert not rule.cheap([point]).any()
    rule.evaluated([point])
    assert rule.cheap([{**point, "bits": 4}, other]).tolist() == [True, False]
    variants = encoding.points(rule.variants(encoding.codes([point]), np.random.default_rng(0)))
    assert variants == [{**point, "bits": bits} for bits in (4, 8, 16)]


def test_with_stages_fewer_trainings_are_begun_and_new_ones_never_cease():
    found = {}
    for name, given in (("with", stages), ("without", None)):
        optimizer = compareto.optimizer("auto", SPACE, costs, seed=1, stages=given)
        found[name] = []
        for _ in range(30):
            (candidate,) = optimizer.ask()
            optimizer.tell(candidate, quality(candidate))
            found[name].append(candidate)
    assert trainings(found["with"]) < trainings(found["without"])
    assert trainings(found["with"][15:]) > 2
    again = compareto.optimizer("auto", SPACE, costs, seed=1, stages=stages)
    state = compareto.optimizer("auto", SPACE, costs, seed=1, stages=stages)
    for candidate in found["with"]:
        again.ask()
        again.tell(candidate, quality(candidate))
    state.restore(again.state())
    assert state.ask(2) == again.ask(2)
