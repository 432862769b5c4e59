from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.cache_folder import cache_folder, local_folder


@pytest.mark.parametrize(
    ("location", "folder"),
    [("/mnt/share", "/mnt/share"), ("file:///mnt/share", "/mnt/share"), ("file:///mnt/a%20b", "/mnt/a b"), ("s3://bucket/x", None), ("memory://x", None)],
)
def test_what_a_location_is(location: str, folder: str | None) -> None:
    assert local_folder(location) == (None if folder is None else Path(folder))


@pytest.mark.parametrize("location", ["s3:/bucket", "file:/mnt/share", "file://share/x", "file://", "9p://x"])
def test_what_is_no_location(location: str) -> None:
    with pytest.raises(UserError, match=r"is not a URI|names no folder"):
        local_folder(location)


def test_a_relative_folder_stays_where_it_is_for_other_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert local_folder("cache") == tmp_path / "cache"


def test_what_is_of_this_machine_stays_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COMPARETO_CACHE", "s3://bucket/cache")
    assert cache_folder() == tmp_path / ".cache" / "compareto"
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
