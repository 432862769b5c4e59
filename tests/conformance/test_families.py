"""Every family x kind of axis x criterion: what is promised of a cut is what the model that is really cut does."""

import functools

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from compressors.compressor import GraphEdit
from compressors.context import Batch, logits_of
from compressors.graph import ModelGraph, trace
from compressors.graph.followable import silence
from compressors.graph.surgery import cut
from compressors.pruning import CRITERIA, Prune, score
from tests.conformance.families import FAMILIES, build

CASES = [(family, kind) for family, made in FAMILIES.items() for kind in made.kinds]
RECURRENT = ("lstm", "gru")  # FlopCounterMode does not count them


@functools.cache
def traced(family):
    model, inputs = build(family)
    return model, inputs, trace(model, inputs)


@functools.cache
def scores(family, criterion):
    model, inputs, graph = traced(family)
    batch = Batch(inputs, torch.zeros(2, dtype=torch.long))
    # A made-up loss: what matters is that gradients of every weight reach the criterion.
    return score(model, graph, criterion, [batch], lambda logits, _: logits.float().square().mean())


def made(family, kept):
    """The model that is really cut, its output, and its counts by means that know nothing of the graph."""
    model, inputs, graph = traced(family)
    smaller = cut(model, graph, kept)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        found = output(smaller, inputs)
    return smaller, found, sum(p.numel() for p in smaller.parameters()), counter.get_total_flops() / 2


def output(model, inputs):
    with torch.no_grad():
        found = model(**inputs)
    return found.last_hidden_state if hasattr(found, "last_hidden_state") and not hasattr(found, "logits") else logits_of(found)


def agrees(family, kept):
    model, inputs, graph = traced(family)
    smaller, found, parameters, macs = made(family, kept)
    shapes = GraphEdit.identity(graph).cut(kept).shapes(graph)
    assert graph.count_parameters(shapes)[0] == parameters
    if family not in RECURRENT:
        assert graph.count_macs(shapes)[0] == macs
    axes = {axis.name: axis for axis in graph.axes}
    if not any(axes[name].coupled for name in kept):
        assert torch.allclose(found, output(silence(model, graph, kept), inputs), atol=1e-4)
    assert torch.isfinite(found).all()
    return smaller, shapes


@pytest.mark.parametrize("family", FAMILIES)
def test_it_offers_its_kinds(family):
    _, _, graph = traced(family)
    assert set(FAMILIES[family].kinds) <= {axis.kind for axis in graph.prunable}
    assert len({axis.name for axis in graph.axes}) == len(graph.axes)
    assert all(axis.size > 1 for axis in graph.prunable)


@pytest.mark.parametrize("family", FAMILIES)
def test_nine_tenths_of_the_weights_and_half_of_the_macs_can_go(family):
    _, _, graph = traced(family)
    assert share_prunable(graph) >= 0.9
    least = graph.baseline()
    least.widths[0, [axis.fixed is None for axis in graph.axes]] = 1
    assert graph.count_macs(least)[0] <= 0.5 * graph.macs


def share_prunable(graph: ModelGraph) -> float:
    on_axis = {entry.parameter for entry in graph.parameter_dims for segment in entry.segments for axis in segment if graph.axes[axis].fixed is None}
    weights = {site.name: int(site.elements.evaluate(graph.baseline().widths)[0]) for site in graph.sites if site.operator != "embedding"}
    return sum(n for name, n in weights.items() if name in on_axis) / sum(weights.values())


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_a_cut_is_as_priced_and_equals_silencing(family, kind, criterion):
    _, _, graph = traced(family)
    edit = Prune(criterion=criterion, ratio={kind: 0.5}).plan(graph, {criterion: scores(family, criterion)}, GraphEdit.identity(graph))
    assert edit.kept
    agrees(family, edit.kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_subsets_of_random_axes(family):
    _, inputs, graph = traced(family)
    rng = np.random.default_rng(1)
    for _ in range(3):
        kept = {a.name: np.sort(rng.choice(a.size, rng.integers(1, a.size + 1), replace=False)) for a in graph.prunable if rng.random() < 0.7}
        smaller, shapes = agrees(family, kept)
    again = trace(smaller, inputs, check_cuts=False)
    assert (again.macs, again.activation_peak(again.baseline())[0]) == (graph.count_macs(shapes)[0], graph.activation_peak(shapes)[0])
