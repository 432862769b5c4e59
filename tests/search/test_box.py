import numpy as np
import pytest

from evaluators.metric import EXACT, Estimate, Metric
from search.box import Box
from search.expressions import parse_constraint
from search.metric_names import MetricNames

ACCURACY = Metric("accuracy", "", "max", "observed")
OBJECTIVES = (("accuracy", ACCURACY), ("size_bytes", EXACT["size_bytes"]))
BASELINES = np.array([[0.9, 1024.0], [0.88, 256.0]])
UNCOMPRESSED = {"accuracy": Estimate.exact(0.9), "size_bytes": Estimate.exact(1024.0)}


def bound(*texts):
    names = MetricNames((ACCURACY,), ())
    return [parse_constraint(text, names) for text in texts]


def test_a_point_that_unites_the_baselines_best_fills_the_box():
    box = Box.of(OBJECTIVES, BASELINES, UNCOMPRESSED, [])
    assert box.hypervolume(np.array([[0.9, 256.0]])) == pytest.approx(1)


def test_halving_the_bytes_is_worth_the_same_anywhere():
    box = Box.of(OBJECTIVES, BASELINES, UNCOMPRESSED, [])
    volumes = [box.hypervolume(np.array([[0.9, size]])) for size in (512.0, 256.0, 128.0, 64.0)]
    assert np.diff(volumes) == pytest.approx(np.diff(volumes)[0])
    assert np.diff(volumes)[0] > 0


def test_quality_counts_down_to_the_constraint():
    assert Box.of(OBJECTIVES, BASELINES, UNCOMPRESSED, bound("accuracy >= baseline - 0.2")).reference[0] == pytest.approx(-0.7)
    assert Box.of(OBJECTIVES, BASELINES, UNCOMPRESSED, bound("accuracy >= 0.89", "size_bytes <= 2KB")).reference[0] == pytest.approx(-0.89)


def test_a_constraint_that_no_baseline_keeps_leaves_a_box():
    box = Box.of(OBJECTIVES, BASELINES, UNCOMPRESSED, bound("accuracy >= baseline + 0.05"))
    assert (box.scale > 0).all()
