import dataclasses
import json
import math
import re

import numpy as np
import pytest

import compareto as cp
from evaluators.metric import Estimate
from search.cli import main
from search.laws import fit_law, law_lines, laws_of

PI = "latency_ms@raspberry-pi-5/onnxruntime"


def sizes_of(count, seed=0):
    return np.exp(np.random.default_rng(seed).uniform(np.log(1e5), np.log(1e7), count)).round()


def test_a_power_law_is_found_again():
    sizes = sizes_of(40)
    noise = np.exp(0.02 * np.random.default_rng(1).standard_normal(40))
    law = fit_law("latency_ms", "power", sizes, (3e-6 * sizes**0.9 + 0.5) * noise, target=3.0)
    for name, true in (("b", 0.9), ("c", 0.5)):
        value, low, high = law.coefficients[name]
        assert low <= true <= high
        assert value == pytest.approx(true, rel=0.15)
    assert law.explained > 0.99
    assert not law.poor
    true = ((3.0 - 0.5) / 3e-6) ** (1 / 0.9)
    assert law.reached.low <= true <= law.reached.high
    assert law.reached.parameters == pytest.approx(true, rel=0.03)


def test_a_saturating_accuracy_is_found_again():
    sizes = sizes_of(60)
    accuracy = 1 - 0.6 / (1 + 5e-6 * sizes) + 0.003 * np.random.default_rng(2).standard_normal(60)
    law = fit_law("accuracy", "saturation", sizes, accuracy, target=0.95)
    for name, true in (("d", 0.6), ("e", 5e-6)):
        value, low, high = law.coefficients[name]
        assert low <= true <= high
        assert value == pytest.approx(true, rel=0.1)
    assert law.reached.parameters == pytest.approx((0.6 / 0.05 - 1) / 5e-6, rel=0.05)
    assert not law.reached.beyond


def test_intervals_hold_most_of_the_time():
    held = 0
    for seed in range(12):
        sizes = sizes_of(30, seed)
        accuracy = 1 - 0.5 / (1 + 4e-6 * sizes) + 0.01 * np.random.default_rng(100 + seed).standard_normal(30)
        law = fit_law("accuracy", "saturation", sizes, accuracy, target=0.9, seed=seed)
        held += law.reached.low <= (0.5 / 0.1 - 1) / 4e-6 <= law.reached.high
    assert held >= 8


def test_a_target_may_be_beyond_what_was_tried_or_at_no_size():
    sizes = sizes_of(40)
    accuracy = 1 - 0.6 / (1 + 5e-6 * sizes)
    far = fit_law("accuracy", "saturation", sizes, accuracy, target=0.999)
    assert far.reached.beyond
    assert "beyond the sizes that were tried" in "\n".join(law_lines([far]))
    never = fit_law("accuracy", "saturation", sizes, accuracy, target=1.0)
    assert math.isinf(never.reached.parameters)
    assert "accuracy = 1 is reached at no size" in "\n".join(law_lines([never]))
    flat = fit_law("latency_ms", "power", sizes, np.full(40, 2.0), target=3.0)
    assert flat.reached.parameters > sizes.max() or math.isinf(flat.reached.parameters)


def test_a_latency_that_does_not_depend_on_size_reaches_nothing_else():
    sizes = np.linspace(1e4, 1e5, 12)
    never = fit_law("latency_ms", "power", sizes, np.full(12, 0.02), target=10.0)
    assert law_lines([never])[-1] == "  latency_ms = 10 is reached at no size"
    hardly = fit_law("latency_ms", "power", sizes, 0.02 + 1e-8 * sizes**0.05, target=0.021)
    assert re.search(r"is reached at \d[.\d]*e\+\d+ parameters", law_lines([hardly])[-1])


def test_what_does_not_depend_on_size_is_a_poor_fit():
    rng = np.random.default_rng(5)
    law = fit_law("accuracy", "saturation", sizes_of(50), rng.uniform(0.5, 0.9, 50))
    assert law.poor
    assert "a poor fit, since trials differ by more than their size" in "\n".join(law_lines([law]))


@pytest.mark.parametrize(("trials", "sizes"), [(0, 0), (7, 7), (20, 4)])
def test_too_few_trials_or_sizes_give_no_law(trials, sizes):
    values = 1e5 * (1 + np.arange(trials, dtype=float) % max(1, sizes))
    law = fit_law("accuracy", "saturation", values, np.full(trials, 0.9), target=0.95)
    assert law.coefficients is None
    assert law_lines([law]) == [f"accuracy: no law: {trials} trials of {sizes} sizes are too few; a law needs 8 of 5"]


def test_a_study_has_a_law_of_quality_and_of_each_latency(study, random_records):
    results = study(random_records)
    accuracy, *latencies = laws_of(results, "accuracy=95%")
    assert (accuracy.metric, accuracy.form, accuracy.reached.target) == ("accuracy", "saturation", 0.95)
    assert PI in [law.metric for law in latencies]
    pi = next(law for law in latencies if law.metric == PI)
    # Latency in these records is proportional to size.
    assert pi.coefficients["b"][0] == pytest.approx(1, abs=0.01)
    assert pi.coefficients["a"][0] == pytest.approx(4e-5, rel=0.02)
    assert laws_of(results, f"{PI}=0.5")[0].reached is None


def test_a_metric_beyond_one_has_no_law_of_accuracy(study, random_records):
    records = [dataclasses.replace(r, metrics={**r.metrics, "accuracy": Estimate.exact(30.0)}) for r in random_records]
    assert "the law of accuracy is for metrics from 0 to 1 of which more is better; the study has accuracy" in law_lines(laws_of(study(records)))[0]


def test_front_prints_laws_and_the_size_of_a_target(study, random_records, capsys):
    folder = str(study(random_records).folder)
    assert main(["front", folder, "--law", "--target", "accuracy=0.95"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"accuracy = 1 - d / \(1 \+ e \* P\), with d = ", printed)
    assert re.search(r"accuracy = 0\.95 is reached at [\d,]+ parameters \([\d,]+ to [\d,]+\)", printed)
    assert main(["front", folder, "--law", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["front"]
    assert document["laws"][0]["coefficients"]["d"]["low"] <= document["laws"][0]["coefficients"]["d"]["value"]
    assert main(["front", folder, "--format", "json"]) == 0
    assert "laws" not in json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "accuracy=0.9"], "--target: accepted with --law"),
        (["--law", "--format", "csv"], "--law: a law is no row of a table"),
        (["--law", "--target", "accuracy"], "--target: 'accuracy' is not accepted; accepted: METRIC=VALUE"),
        (["--law", "--target", "acuracy=1"], "acuracy"),
        (["--law", "--target", "macs=1"], "there is no law of macs; accepted: accuracy, latency_ms@"),
    ],
)
def test_a_users_mistake_is_one_message(study, capsys, arguments, said):
    assert main(["front", str(study().folder), *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_study_of_few_trials_says_so(study):
    with pytest.raises(cp.UserError):
        laws_of(study(), "macs=1")
    assert all(law.coefficients is None or law.trials >= 8 for law in laws_of(study()))
