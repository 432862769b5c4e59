import pytest

from compressors.errors import UserError
from search.quantities import format_bytes, format_seconds, parse_bytes, parse_seconds


@pytest.mark.parametrize(("text", "count"), [("20GB", 20 * 10**9), ("1.5 mb", 1_500_000), ("2GiB", 2**31), ("0B", 0), (".5kB", 500)])
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text, "--size") == count


@pytest.mark.parametrize(("text", "seconds"), [("30d", 30 * 86400), ("12h", 43200), ("45min", 2700), ("90 s", 90), ("1.5w", 907200)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text, "--older-than") == seconds


@pytest.mark.parametrize("text", ["", "5", "GB", "-1GB", "1e3GB", "inf GB", "5 GBs", "30d"])
def test_what_is_no_size_is_quoted(text: str) -> None:
    with pytest.raises(UserError, match=r"--size: '.*' is not accepted; accepted: a size such as 5GB, 500MB or 2GiB"):
        parse_bytes(text, "--size")


def test_as_people_read_them() -> None:
    assert [format_bytes(n) for n in (0, 999, 1500, 12_340_000, 2e10)] == ["0 B", "999 B", "1.5 kB", "12.3 MB", "20 GB"]
    assert [format_seconds(s) for s in (5, 61, 7200, 90000)] == ["5 seconds", "1 minute", "2 hours", "1 day"]
