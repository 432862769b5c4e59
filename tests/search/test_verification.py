import dataclasses

import pytest

from compressors.errors import UserError
from evaluators.metric import EXACT
from evaluators.tasks.quality import ACCURACY, PERPLEXITY
from search.experiment import Experiment
from search.verification import Verification, host_threads, keeps, measurable, read_verifications

FOUND = Verification("regressed", "onnxruntime", "ab12", {"accuracy": 0.9, "size_bytes": 812.0}, ("accuracy: promised 97 %, found 90 %",))


def test_it_survives_its_file():
    assert Verification.from_json(FOUND.to_json()) == FOUND


@pytest.mark.parametrize("text", ["{", "[]", '{"verdict": "fine"}', FOUND.to_json().replace("812.0", '"many"').replace("regressed", "kept")])
def test_a_file_that_is_none_is_named(tmp_path, text):
    (tmp_path / "verified").mkdir()
    (tmp_path / "verified" / "0001.json").write_text(text)
    with pytest.raises(UserError, match=r"0001\.json is not a valid verification .*resume the study"):
        read_verifications(tmp_path)


def test_only_a_broken_promise_demotes():
    verdicts = {v: dataclasses.replace(FOUND, verdict=v).demoted for v in ("kept", "regressed", "unexportable", "unverified")}
    assert verdicts == {"kept": False, "regressed": True, "unexportable": True, "unverified": False}


@pytest.mark.parametrize(
    ("metric", "promised", "found", "kept"),
    [
        (ACCURACY, 0.97, 0.965, True),
        (ACCURACY, 0.97, 0.964, False),
        (ACCURACY, 0.90, 1.0, True),
        (PERPLEXITY, 4.0, 4.07, True),
        (PERPLEXITY, 4.0, 4.09, False),
        (EXACT["size_bytes"], 1000, 1021, False),
        (EXACT["size_bytes"], 1000, 12, True),
        (ACCURACY, 0.97, float("nan"), False),
    ],
)
def test_better_than_promised_is_kept_and_worse_only_a_little(metric, promised, found, kept):
    assert keeps(metric, promised, found) is kept


def test_only_this_host_in_the_studys_runtime_is_measured():
    experiment = Experiment.load("quickstart", ["devices=[raspberry-pi-5/onnxruntime, this-host:1t]"])
    assert list(host_threads(experiment).values()) == [1]
    assert measurable(experiment) == ("accuracy", "loss", "size_bytes", "latency_ms@this-host/onnxruntime:1t")
    assert host_threads(Experiment.load("quickstart")) == {}
