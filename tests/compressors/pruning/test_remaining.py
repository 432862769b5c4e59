"""What is left of a graph is what tracing the compressed model again would find."""

import numpy as np
import pytest
import torch

from compressors.context import Batch
from compressors.graph import trace
from compressors.graph.surgery import cut
from compressors.low_rank import LowRank
from compressors.pipeline import compress
from compressors.pruning import CRITERIA, score
from compressors.pruning.remaining import remaining
from tests.conformance.families import build


@pytest.mark.parametrize("family", ["distilbert", "basic_resnet", "llama"])
def test_scores_of_a_cut_model_are_those_of_the_model_traced_anew(family):
    model, inputs = build(family)
    graph = trace(model, inputs, check_cuts=False)
    rng = np.random.default_rng(0)
    kept = {axis.name: np.sort(rng.choice(axis.size, max(2, axis.size // 2), replace=False)) for axis in graph.prunable}
    smaller = cut(model, graph, kept)
    left, again = remaining(graph, smaller), trace(smaller, inputs, check_cuts=False)
    for criterion in ("l2", "taylor", "activation", "bn_scale"):
        given = [Batch(inputs, torch.zeros(2, dtype=torch.long))], lambda logits, _: logits.float().square().mean()
        found, expected = score(smaller, left, criterion, *given), score(smaller, again, criterion, *given)
        same = set(found) & set(expected)
        assert {axis.kind for axis in again.prunable if axis.name in same} >= {axis.kind for axis in again.prunable}
        assert all(np.allclose(found[name], expected[name]) for name in same)
        assert all(len(found[name]) == len(units) for name, units in kept.items())


@pytest.mark.parametrize("criterion", CRITERIA)
def test_the_two_factors_of_a_layer_take_its_place(criterion):
    model, inputs = build("mlp")
    graph = trace(model, inputs)
    factorised = compress(model, [{LowRank.name: {"rank": 0.3}}], inputs)
    left = remaining(graph, factorised)
    given = [Batch(inputs, torch.zeros(2, dtype=torch.long))], lambda logits, _: logits.float().square().mean()
    found = score(factorised, left, criterion, *given)
    assert all(len(np.unique(values)) > 1 for values in found.values()), "no axis is without weights"
    if criterion == "l2":
        name, *_ = (axis.name for axis in graph.prunable)
        own = factorised.get_submodule(name).second.weight.detach().double().square().sum(1)
        following = next(m for n, m in factorised.named_children() if int(n) > int(name) and hasattr(m, "first"))
        assert np.allclose(found[name], ((own + following.first.weight.detach().double().square().sum(0)) / 2).sqrt())
