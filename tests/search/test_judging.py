import dataclasses
import math

import pytest

from compressors.errors import UserError
from search.judging import UNCOMPRESSED


def test_quality_is_known_on_the_split_where_it_was_measured_and_costs_on_both(study):
    results = study()
    record = results.record("0003")
    assert results.estimate(record, "accuracy", "search").value == 0.94
    assert math.isnan(results.estimate(record, "accuracy", "report").value)
    assert results.estimate(record, "size_bytes", "report").value == 25e3


def test_losses_are_smaller_where_better(study):
    results = study()
    losses = results.losses(results.records[:2], results.objectives("accuracy", "size_bytes"), "search")
    assert losses.tolist() == [[-0.97, 30e3], [-0.95, 20e3]]
    assert results.figures(results.records[:2], results.objectives("accuracy"), "search").tolist() == [[0.97], [0.95]]


def test_candidates_keep_constraints_and_are_trained_to_the_end(study):
    results = study()
    assert "0004" not in {r.id for r in results.candidates(None, "search")}, "it breaks the constraint on accuracy"
    part = dataclasses.replace(results, records=tuple(dataclasses.replace(r, rung=0.5) if r.id == "0001" else r for r in results.records))
    assert {r.id for r in results.candidates(None, "search")} - {r.id for r in part.candidates(None, "search")} == {"0001"}
    assert {r.id for r in results.candidates("size_bytes <= 15kB", "report")} == {"0002"}


def test_baselines_are_found_by_their_short_names(study):
    assert study().record("int8").id == "baseline-int8"
    assert study().uncompressed.baseline == UNCOMPRESSED
    with pytest.raises(UserError, match="has no trial '77'"):
        study().record("77")
