import pytest

from compressors.errors import UserError
from evaluators.metric import Estimate
from search.record import StageRecord, TrialRecord

RECORD = TrialRecord(
    id="0003",
    recipe=[{"prune": {"ratio": 0.5}}],
    status="ok",
    metrics={"accuracy": Estimate(0.9, 0.88, 0.92), "macs": Estimate.exact(1e6)},
    report={"accuracy": Estimate(0.89, 0.87, 0.91)},
    values={"prune.ratio": 0.5},
    stages=(StageRecord("prune", "abc", cached=True, seconds=0.1),),
    widths={"conv1": (16, 8)},
    logs=("epoch 1",),
    versions={"torch": "2"},
    bounds={
        "raspberry-pi-5/onnxruntime": {"bound_by": {"compute": 1.0}, "kernels": [{"name": "conv", "module": "0", "bound": "compute", "ms": 1.5, "share": 1.0}]}
    },
)


def test_json_round_trip_is_exact() -> None:
    assert TrialRecord.from_json(RECORD.to_json()) == RECORD


def test_a_record_is_one_line() -> None:
    assert "\n" not in RECORD.to_json()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", RECORD.to_json().replace('"ok"', '"fine"'), RECORD.to_json()[:-20]])
def test_a_corrupt_record_names_its_source(text: str) -> None:
    with pytest.raises(UserError, match=r"records/0003\.json is not a valid trial record"):
        TrialRecord.from_json(text, "records/0003.json")


def test_nan_is_never_written() -> None:
    record = TrialRecord(id="1", recipe=[], status="ok", metrics={"accuracy": Estimate(float("nan"), 0, 1)})
    with pytest.raises(ValueError, match="JSON"):
        record.to_json()
