import dataclasses

import numpy as np
import pytest
from scipy import stats

from evaluators.metric import Estimate
from search.record import TrialRecord
from search.replicates import pooled, replicate_id, replicated, seeds_of, with_spread


def point(trial, accuracy, replicate=0, status="ok", reason=""):
    report = {"accuracy": Estimate(accuracy, accuracy - 0.02, accuracy + 0.01)} if status == "ok" else {}
    return TrialRecord(trial, [], status, reason, report=report, replicate=replicate)


def test_an_id_says_of_which_point_a_replicate_is():
    assert replicate_id("0007", 2) == "0007-r2"
    assert replicated(replicate_id("first.0007", 1)) == "first.0007"


def test_the_mean_is_over_all_seeds_and_failures_are_told():
    seeds = seeds_of(point("1", 0.9), [point("1-r1", 0.8, 1), point("1-r2", 0, 2, "diverged", "Traceback\nthe loss was NaN")])
    assert seeds.values["accuracy"] == (0.9, 0.8)
    assert seeds.mean["accuracy"] == pytest.approx(0.85)
    assert seeds.count == 2
    assert seeds.failed == ("replicate 2: diverged, the loss was NaN",)


def test_variance_is_pooled_over_groups():
    variance, freedom = pooled([[1.0, 3.0], [10.0], [5.0, 5.0, 8.0]])
    assert freedom == 3
    assert variance == pytest.approx((2.0 + 6.0) / 3)
    assert pooled([[1.0]])[1] == 0


def test_intervals_cover_sampling_and_seeds():
    report = {r.id: r.report for r in (point("1", 0.9), point("2", 0.5), point("3", 0.7))}
    seeds = {"1": seeds_of(point("1", 0.9), [point("1-r1", 0.88, 1)]), "2": seeds_of(point("2", 0.5), [point("2-r1", 0.54, 1)])}
    found = with_spread(report, seeds, ["accuracy"])
    spread = stats.t.ppf(0.95, 2) * np.sqrt((0.02**2 / 2 + 0.04**2 / 2) / 2)
    assert found["1"]["accuracy"].value == 0.9
    assert 0.9 - found["1"]["accuracy"].low == pytest.approx(np.hypot(0.02, spread))
    assert found["1"]["accuracy"].high == pytest.approx(min(1.0, 0.9 + np.hypot(0.01, spread)))
    assert found["3"] == report["3"], "nothing is known of its seeds"


def test_where_no_seed_was_tried_intervals_are_those_of_the_examples():
    report = {"1": point("1", 0.9).report}
    assert with_spread(report, {}, ["accuracy"]) == report


def test_an_unstable_point_stays_on_the_front_and_says_so(study):
    results = study()
    failed = dataclasses.replace(results.record("0001"), id="0001-r1", replicate=1, status="diverged", reason="NaN", report={})
    again = dataclasses.replace(results.record("0002"), id="0002-r1", replicate=1, report={"accuracy": Estimate(0.88, 0.86, 0.9)})
    front = dataclasses.replace(results, replicates={"0001": (failed,), "0002": (again,)}).front("accuracy", "size_bytes").set_index("id")
    assert front.loc["0001", "unstable"] == ["replicate 1: diverged, NaN"]
    assert front.loc["0001", "on_front"]
    assert front.loc["0002", ["seeds", "accuracy", "accuracy_mean"]].tolist() == [2, 0.90, pytest.approx(0.89)]
    assert front.loc["0002", "accuracy_low"] < 0.88 - 0.02
    assert front.loc["baseline-int8", "seeds"] == 0
