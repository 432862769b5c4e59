import errno
import shutil
from pathlib import Path

import pytest

from compressors.errors import StorageError, UserError
from search.cache import Cache
from tests.search.stored import age, changed, missing, put, truncated


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An object store that is a folder behind the doors: what is in it is seen by every process."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return f"local://{tmp_path}/bucket/cache"


def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """From here on, on a machine with a disk of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / name))


def test_an_object_store_is_shared_by_machines(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Cache(bucket)
    assert here.get("ab12") is None
    folder = put(here, "ab12", kind="distill")
    assert folder.is_relative_to(tmp_path / "home" / ".cache" / "compareto")
    elsewhere(monkeypatch, tmp_path, "other")
    there = Cache(bucket)
    found = there.get("ab12")
    assert found is not None
    assert found.is_relative_to(tmp_path / "other")
    assert (found / "x").read_text() == "1"
    shutil.rmtree(tmp_path / "bucket" / "cache" / "stages" / "ab")
    assert there.get("ab12") == found, "what this machine has is not downloaded again"
    assert [e.kind for e in there.stores[bucket].entries()] == []
    elsewhere(monkeypatch, tmp_path, "third")
    assert Cache(bucket).get("ab12") is None


def test_objects_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere(monkeypatch, tmp_path, "here")
    put(Cache("memory://bucket/cache"), "ab12")
    elsewhere(monkeypatch, tmp_path, "there")
    cache = Cache("memory://bucket/cache")
    assert cache.get("ab12") is not None
    store = cache.stores["memory://bucket/cache"]
    assert [(e.kind, e.bytes) for e in store.entries()] == [("prune", 1)]
    assert store.fault("ab12") == ""
    store.remove("ab12")
    assert list(store.entries()) == []


def test_half_an_upload_is_no_entry_and_is_completed_by_its_machine(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.cache.remote import Remote

    def die(self: Remote, key: str, folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "store", die)
        with pytest.raises(KeyboardInterrupt):
            put(Cache(bucket), "ab12")
    files = tmp_path / "bucket" / "cache" / "stages" / "ab" / "ab12" / "place"
    files.mkdir(parents=True)
    (files / "x").write_text("1")  # as far as an upload had come
    elsewhere(monkeypatch, tmp_path, "other")
    assert Cache(bucket).get("ab12") is None
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Cache(bucket).get("ab12") is not None
    elsewhere(monkeypatch, tmp_path, "third")
    cache = Cache(bucket)
    assert cache.get("ab12") is not None
    assert list(cache.stores[bucket].leftovers()) == [], "it is not an hour old"
    age(files / "x", 2)
    (left,) = cache.stores[bucket].leftovers()
    cache.stores[bucket].sweep(left)
    assert not files.exists()


def test_two_uploads_of_one_key_at_once_leave_one_whole_entry(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.cache.remote import Remote

    store = Remote.store

    def overtaken(self: Remote, key: str, folder: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Remote, "store", store)
            elsewhere(patch, tmp_path, "faster")
            put(Cache(bucket), "ab12", "rounded otherwise")
        store(self, key, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "store", overtaken)
        put(Cache(bucket), "ab12")
    elsewhere(monkeypatch, tmp_path, "third")
    cache = Cache(bucket)
    assert cache.stores[bucket].fault("ab12") == ""
    assert cache.get("ab12") is not None


@pytest.mark.parametrize("damage", [truncated, changed, missing])
def test_a_corrupt_object_is_removed(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object) -> None:
    put(Cache(bucket), "ab12", "123")
    (stored,) = (tmp_path / "bucket" / "cache" / "stages" / "ab" / "ab12").glob("*/")
    damage(stored)  # type: ignore[operator]
    elsewhere(monkeypatch, tmp_path, "other")
    cache = Cache(bucket)
    assert cache.stores[bucket].fault("ab12") != ""
    assert cache.get("ab12") is None
    assert list(cache.stores[bucket].entries()) == []
    put(cache, "ab12", "123")
    elsewhere(monkeypatch, tmp_path, "third")
    assert Cache(bucket).get("ab12") is not None


def test_a_store_of_another_layout_and_one_that_refuses(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(bucket)
    layout = tmp_path / "bucket" / "cache" / "stages" / "layout"
    layout.write_text("1\n")
    with pytest.raises(UserError, match=r"has layout '1', this version of compareto reads layout 2"):
        Cache(bucket)
    layout.write_text("2\n")

    def refuse(self: object, path: str, data: bytes) -> None:
        raise PermissionError(errno.EACCES, "Access Denied")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.pipe_file", refuse)
    with pytest.raises(StorageError, match=r"cannot write the cache local://.*: Access Denied"):
        Cache(bucket)


def test_a_bucket_that_is_not_there_is_one_clear_error(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: object, path: str, data: bytes) -> None:
        raise FileNotFoundError("The specified bucket does not exist")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.pipe_file", missing)
    with pytest.raises(StorageError, match=r"cannot write the cache local://.*: The specified bucket does not exist"):
        Cache(bucket)
