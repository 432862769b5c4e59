"""Every family x kind of axis x criterion: what is promised of a cut is what the model that is really cut does."""

import numpy as np
import pytest

from compressors.graph import trace
from compressors.pruning import CRITERIA
from tests.conformance.families import FAMILIES
from tests.conformance.measures import half, measure, removable, share_prunable, traced

CASES = [(family, kind) for family, made in FAMILIES.items() for kind in made.kinds]


def agrees(family, kept):
    found = measure(family, kept)
    assert found.finite
    assert found.parameters[0] == found.parameters[1]
    assert found.macs[0] == found.macs[1]
    assert found.difference is None or found.difference <= 1e-4
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_it_offers_its_kinds(family):
    _, _, graph = traced(family)
    assert set(FAMILIES[family].kinds) <= {axis.kind for axis in graph.prunable}
    assert len({axis.name for axis in graph.axes}) == len(graph.axes)
    assert all(axis.size > 1 for axis in graph.prunable)


@pytest.mark.parametrize("family", FAMILIES)
def test_only_what_a_normalisation_reduces_over_is_excused_from_silencing(family):
    _, _, graph = traced(family)
    assert all(axis.kind == "hidden" and "normalises over it" in axis.coupled for axis in graph.prunable if axis.coupled)


@pytest.mark.parametrize("family", FAMILIES)
def test_nine_tenths_of_the_weights_and_half_of_the_macs_can_go(family):
    _, _, graph = traced(family)
    assert share_prunable(graph) >= 0.9
    assert removable(graph) >= 0.5


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(("family", "kind"), CASES)
def test_a_cut_is_as_priced_and_equals_silencing(family, kind, criterion):
    kept = half(family, [kind], criterion)
    assert kept
    agrees(family, kept)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_subsets_of_random_axes(family):
    _, inputs, graph = traced(family)
    rng = np.random.default_rng(1)
    for excused in (False, True, True):
        axes = [axis for axis in graph.prunable if rng.random() < 0.7 and (excused or not axis.coupled)]
        kept = {axis.name: np.sort(rng.choice(axis.size, rng.integers(1, axis.size + 1), replace=False)) for axis in axes}
        found = agrees(family, kept)
    again = trace(found.model, inputs, check_cuts=False)
    assert (again.macs, again.activation_peak(again.baseline())[0]) == (graph.count_macs(found.shapes)[0], graph.activation_peak(found.shapes)[0])
