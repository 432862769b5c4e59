import numpy as np

from search.algorithms.candidates import Candidates
from search.algorithms.encoding import Encoding
from search.space import Space

SPACE = Space.from_plain([{"quantize": {"weight_bits": {"choice": [2, 4, 8]}}}])


def test_costs_that_are_learned_on_the_way_count_as_they_are_now():
    dear = {8}
    candidates = Candidates(Encoding(SPACE), lambda points: np.array([[float(p["quantize.weight_bits"] in dear)] for p in points]))

    def first():
        found = candidates.searched(lambda codes, costs: codes[:, 0] + 1 - costs[:, 0], np.zeros((0, 1)), set(), np.random.default_rng(0))
        return next(found)[0]["quantize.weight_bits"]

    assert first() == 4, "the highest that is not dear"
    dear.clear()
    assert first() == 8
