"""Patterns against a traced model."""

from compressors.graph import trace
from compressors.graph.patterns import unmatched_patterns


def test_a_pattern_that_matches_nothing_comes_with_the_nearest_name(families):
    graph = trace(*families("resnet20"), check_cuts=False)
    assert unmatched_patterns(graph, include=["layer1.*", "conv1"], exclude=["linear"]) == []
    assert unmatched_patterns(graph, exclude=["liner", "zzz"]) == [("liner", "; did you mean 'linear'?"), ("zzz", "")]


def test_a_pattern_selects_the_axes_that_a_module_produces(families):
    graph = trace(*families("resnet20"), check_cuts=False)
    assert [graph.axes[i].name for i in graph.select_axes(include=["layer3.*.conv1"])] == ["layer3.0.conv1", "layer3.1.conv1"]
    # Leaving the classifier alone does not protect the features that enter it.
    assert len(graph.select_axes(exclude=["linear"])) == len(graph.prunable)
