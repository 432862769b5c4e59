"""What the comparison with uniform bits does, on a network that fits in a test."""

import pytest

from search.cache import Cache
from search.experiment import Experiment
from search.preparing import prepare


@pytest.fixture
def comparison(script, tmp_path):
    mixed_precision = script("mixed_precision")
    prepared = prepare(Experiment.load("quickstart", ["fit.epochs=1", "data.max_samples=600"]), Cache(tmp_path), lambda _: None)
    case = mixed_precision.Case("quickstart", "onnxruntime", "channel", (4, 8), (4, 5.5))
    return mixed_precision.Comparison(case, prepared, mixed_precision.Runs(tmp_path / "runs.jsonl"))


def test_both_fit_the_budget_and_are_measured_once(comparison, monkeypatch):
    fours, eights = (comparison.plan(comparison.step(weight_bits=bits))[1] for bits in (4, 8))
    assert comparison.budget_bytes(4) == (fours, 4, fours)
    assert comparison.budget_bytes(8) == (eights, 8, eights)
    assert comparison.budget_bytes(6)[0] == (fours + eights) // 2
    (same, same_high), (more, _) = comparison.rows(2)
    assert same[2:5] == ["4", f"{fours:,}", f"4 bits, {fours:,}"]
    assert (same[6], same[-2], same[-1], same_high) == (f"{fours:,}", "+0.00 [+0.00, +0.00]", "-", 0), "all weights have 4 bits"
    budget, used = (int(more[i].replace(",", "")) for i in (3, 6))
    assert fours < used <= budget < eights
    assert "of 8" in more[7]
    monkeypatch.setattr(type(comparison.prepared.task), "per_example", None)
    monkeypatch.setattr("mixed_precision.scores_of", None)
    assert comparison.rows(2)[1][0] == more
