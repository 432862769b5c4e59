import numpy as np
import pytest

from compressors.errors import UserError
from search.example_scores import pack, unpack


@pytest.mark.parametrize("values", [np.arange(13) % 3 == 0, np.array([0.25, 1.5, 0.0], dtype=np.float32), np.zeros(0)], ids=["bits", "floats", "nothing"])
def test_examples_are_read_back_as_they_were(values):
    assert unpack(pack(values)).tolist() == values.astype(float).tolist()


def test_ten_thousand_right_or_wrong_answers_take_less_than_two_kilobytes():
    assert sum(map(len, pack(np.ones(10_000)).values())) < 2000


@pytest.mark.parametrize("packed", [{"bits": "AA=="}, {"floats": "AAAA"}, {"floats": "?"}])
def test_what_was_not_packed_is_refused(packed):
    with pytest.raises(UserError, match="here are not examples"):
        unpack(packed, "here")
