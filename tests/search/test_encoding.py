import numpy as np

from search.algorithms.encoding import Encoding
from search.space import Space

SPACE = Space.from_plain(
    [
        {"prune": {"criterion": {"choice": ["l2", "taylor", "l1"]}, "ratio": {"uniform": [0.0, 0.8]}}},
        {"optional": {"distill": {"epochs": {"int": [1, 4]}, "learning_rate": {"loguniform": [1e-4, 1e-2]}}}},
        {"quantize": {"weight_bits": {"choice": [4, 8, 16]}}},
    ]
)
COUNTABLE = Space.from_plain([{"optional": {"distill": {"epochs": {"int": [1, 4]}}}}, {"quantize": {"weight_bits": {"choice": [4, 8, 16]}}}])


def test_rows_decode_to_the_points_that_the_space_decodes_them_to():
    encoding, codes = Encoding(SPACE), np.random.default_rng(0).random((50, len(SPACE.dimensions)))
    assert encoding.points(codes) == [SPACE.decode(code) for code in codes]
    snapped = encoding.snapped(codes)
    assert np.allclose(snapped, encoding.codes(encoding.points(codes)), atol=1e-5)
    assert encoding.points(snapped) == encoding.points(codes)


def test_unordered_choices_become_indicators():
    features = Encoding(SPACE).features(Encoding(SPACE).codes([SPACE.decode(np.full(len(SPACE.dimensions), 0.5))]))
    assert features.shape == (1, len(SPACE.dimensions) + 2)
    assert features[0, :3].tolist() == [0.0, 1.0, 0.0]


def test_a_small_space_is_listed_whole():
    found = Encoding(COUNTABLE).every(100)
    assert len({str(point) for point in Encoding(COUNTABLE).points(found)}) == len(found) == COUNTABLE.size == 15
    assert Encoding(COUNTABLE).every(14) is None
    assert Encoding(SPACE).every(10**6) is None
