import dataclasses

from search.verification import Verification


def test_a_frame_has_a_column_for_all_that_is_known_of_a_metric(study):
    frame = study().trials()
    assert {"accuracy", "accuracy_low", "accuracy_high", "accuracy_tier", "status", "reason", "feasible", "origin"} <= set(frame.columns)
    assert frame.set_index("id").loc["0001", ["accuracy_low", "accuracy_high"]].tolist() == [0.95 - 0.02, 0.95 + 0.02]


def test_a_demoted_point_stands_below_the_front_and_ties_with_nobody(study):
    results = dataclasses.replace(study(), verified={"0001": Verification("regressed", "onnxruntime")})
    row = results.front(baselines=True).set_index("id").loc["0001"]
    assert not row["on_front"]
    assert not row["knee"]
    assert row["tied"] == row["dominates"] == []
