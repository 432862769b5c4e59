import dataclasses

import numpy as np
import pytest

from search.experiment import Experiment
from search.results import Results
from search.running_front import RunningFront

OBJECTIVES = (
    "[accuracy, size_bytes]",
    "[accuracy, latency_ms@raspberry-pi-5/onnxruntime, size_bytes, macs]",
    "[size_bytes]",
)
CONSTRAINTS = ("[]", "['accuracy >= baseline - 0.05', 'size_bytes <= 60000', 'accuracy + loss >= 0.9']")


@pytest.mark.parametrize("constraints", CONSTRAINTS, ids=["free", "constrained"])
@pytest.mark.parametrize("objectives", OBJECTIVES, ids=["two", "four", "one"])
def test_after_every_record_it_is_what_the_results_of_all_of_them_are(random_records, objectives, constraints):
    """Baselines come first, as in a study, or in between, as in one that is resumed with others."""
    experiment = Experiment.load("quickstart", [f"objectives={objectives}", f"constraints={constraints}"])
    rng = np.random.default_rng(1)
    records = [random_records[i] for i in rng.permutation(len(random_records))]
    records[3] = dataclasses.replace(records[3], status="diverged", metrics={})
    records[5] = dataclasses.replace(records[5], rung=0.5)
    records[7] = dataclasses.replace(records[7], replicate=1)
    records.append(dataclasses.replace(records[9], id="0099"))
    records.append(dataclasses.replace(records[9], id="0100", metrics={"size_bytes": records[9].metrics["size_bytes"]}))
    if constraints == "[]":
        records.sort(key=lambda r: r.baseline is None)
    running, sizes = RunningFront(experiment), set()
    for i, record in enumerate(records):
        running.add(record)
        results = Results(experiment, tuple(records[: i + 1]))
        assert running.size == sum(r.baseline is None for r in results.front_records(split="search"))
        assert running.hypervolume == pytest.approx(results.hypervolume(split="search"), rel=1e-9, nan_ok=True)
        sizes.add(running.size)
    assert len(sizes) > 1 or objectives == "[size_bytes]"
