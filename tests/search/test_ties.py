import dataclasses

import numpy as np
import pytest

from evaluators.metric import Estimate
from search.example_scores import pack
from search.ties import ties

RNG = np.random.default_rng(0)
EASY = RNG.random(2000) < 0.9


def answers(lost=0, gained=0):
    """Right answers that are those of ``EASY`` but for so many."""
    right = EASY.copy()
    right[np.flatnonzero(EASY)[:lost]] = False
    right[np.flatnonzero(~EASY)[:gained]] = True
    return right.astype(float)


def judged(study, points, replicates=None):
    """Results whose front on report is ``points``: answers and bytes by id; ``replicates``: answers of other seeds."""
    results = study()
    records = [results.uncompressed]

    def published(record, right):
        value = float(np.mean(right))
        return dataclasses.replace(record, report={"accuracy": Estimate(value, value - 0.01, value + 0.01)}, examples=pack(right))

    for trial, (right, size) in points.items():
        template = results.record("0001")
        costs = {**template.metrics, "size_bytes": Estimate.exact(size)}
        records.append(published(dataclasses.replace(template, id=trial, metrics=costs), right))
    others = {
        trial: tuple(published(dataclasses.replace(results.record("0001"), id=f"{trial}-r{i}", replicate=i), right) for i, right in enumerate(rows, 1))
        for trial, rows in (replicates or {}).items()
    }
    results = dataclasses.replace(results, records=tuple(records), replicates=others)
    members = [results.record(trial) for trial in points]
    return ties(results, members, results.objectives("accuracy", "size_bytes"), "report")


def test_the_same_examples_tell_small_differences_from_none(study):
    """Twenty more right answers among 2,000, of which no other differs, are no chance; a net gain of four among a hundred that differ may be."""
    assert judged(study, {"a": (answers(gained=20), 2e4), "b": (answers(), 1e4)}) == {}
    assert judged(study, {"a": (answers(lost=48, gained=52), 2e4), "b": (answers(), 1e4)}) == {"a": ["b"]}


def test_only_what_costs_more_everywhere_can_be_tied(study):
    assert judged(study, {"a": (answers(lost=50, gained=50), 1e4), "b": (answers(), 1e4)}) == {}
    assert judged(study, {"a": (answers(), 1e4), "b": (answers(), 2e4), "c": (answers(), 3e4)}) == {"b": ["a"], "c": ["a", "b"]}


def test_what_seeds_change_by_themselves_is_no_advantage(study):
    points = {"a": (answers(gained=20), 2e4), "b": (answers(), 1e4)}
    assert judged(study, points, {"a": [answers(lost=15)], "b": [answers(gained=15)]}) == {"a": ["b"]}
    assert judged(study, points, {"a": [answers(gained=21)], "b": [answers(gained=1)]}) == {}


def test_without_examples_the_intervals_decide(study):
    results = study()

    def found(half, *values):
        reports = {i: {"accuracy": Estimate(v, v - half, v + half)} for i, v in zip(("0001", "0002", "baseline-fp32"), values, strict=True)}
        records = tuple(dataclasses.replace(r, report=reports[r.id]) for r in results.records if r.id in reports)
        return ties(dataclasses.replace(results, records=records), records, results.objectives("accuracy", "size_bytes"), "report")

    assert found(0.01, 0.92, 0.89, 0.95) == {}
    assert found(0.02, 0.92, 0.915, 0.97) == {"0001": ["0002"]}


@pytest.mark.parametrize(("names", "split"), [(("accuracy",), "report"), (("size_bytes", "macs"), "report"), (("accuracy", "size_bytes"), "search")])
def test_nothing_is_tied_where_no_quality_is_paid_for(study, names, split):
    results = study()
    assert ties(results, results.front_records(), results.objectives(*names), split) == {}
