import pydantic
import pytest

from compressors.scheduled import Ramp, Scheduled, as_share, as_temperature, value_at


def test_a_number_stays_as_it_is():
    assert value_at(3.5, 0.7) == 3.5


@pytest.mark.parametrize(("schedule", "quarter"), [("linear", 6.25), ("cosine", 8 - 7 * 0.1464466)])
def test_a_ramp_goes_from_start_to_end(schedule, quarter):
    ramp = Ramp(start=8, end=1, schedule=schedule)
    assert [value_at(ramp, p) for p in (0, 0.25, 0.5, 1)] == pytest.approx([8, quarter, 4.5, 1])


def test_both_ends_are_checked():
    assert as_share(Ramp(start=0, end=1)) == Ramp(start=0, end=1)
    with pytest.raises(ValueError, match="above 0"):
        as_temperature(Ramp(start=4, end=0))
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        as_share(Ramp(start=0.5, end=1.5))


def test_numbers_and_ramps_are_told_apart():
    adapter = pydantic.TypeAdapter(Scheduled)
    assert adapter.validate_python(2) == 2.0
    assert adapter.validate_python({"start": 8, "end": 1, "schedule": "cosine"}) == Ramp(start=8, end=1, schedule="cosine")
    for wrong in ({"start": 8}, {"start": 8, "end": 1, "schedule": "step"}, {"start": 1, "end": 2, "stop": 3}, "hot"):
        with pytest.raises(pydantic.ValidationError):
            adapter.validate_python(wrong)
