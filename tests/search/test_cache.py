import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from compressors.errors import StorageError, UserError
from search.cache import Cache
from tests.search.stored import DAMAGES, age, changed, put

ROOT = Path(__file__).parents[2]


def keys(cache: Cache) -> list[str]:
    return sorted(entry.key for store in cache.stores.values() for entry in store.entries())


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get("ab12") is None
    put(cache, "ab12")
    found = Cache(tmp_path).get("ab12")
    assert found is not None
    assert (found / "x").read_text() == "1"


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("known", [False, True], ids=["another process", "the process that wrote it"])
def test_a_corrupt_entry_is_removed_and_written_again(tmp_path: Path, damage: object, known: bool) -> None:
    cache = Cache(tmp_path)
    folder = put(cache, "ab12", "123")
    damage(folder)  # type: ignore[operator]
    now = cache if known else Cache(tmp_path)
    assert now.get("ab12") is None
    assert not folder.exists()
    put(now, "ab12", "123")
    found = Cache(tmp_path).get("ab12")
    assert found is not None
    assert (found / "x").read_text() == "123"


def test_a_corrupt_entry_does_not_win_against_a_writer(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    changed(put(cache, "ab12", "123"))
    put(cache, "ab12", "123")
    assert (tmp_path / "stages" / "ab" / "ab12" / "x").read_text() == "123"


def test_large_entries_are_read_once_by_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Cache(tmp_path), "ab12")
    cache, read = Cache(tmp_path), []
    from search.cache import entry

    digest = entry.digest
    monkeypatch.setattr(entry, "digest", lambda path: read.append(path.name) or digest(path))
    assert [cache.get("ab12") is not None for _ in range(3)] == [True] * 3
    assert read == ["x"]


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def slow(folder: Path) -> None:
        put(Cache(tmp_path), "ab12", "first")
        (folder / "x").write_text("second")

    found = cache.put("ab12", slow, kind="prune", model="")
    assert (found / "x").read_text() == "first"
    assert [p.name for p in found.parent.iterdir()] == ["ab12"]


def test_what_one_computes_others_wait_for(tmp_path: Path) -> None:
    computed: list[int] = []

    def work(number: int) -> None:
        cache = Cache(tmp_path)
        with cache.computing("ab12"):
            if cache.get("ab12") is None:
                computed.append(number)
                put(cache, "ab12")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1
    assert [p.name for p in (tmp_path / "stages" / "ab").iterdir()] == ["ab12"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")],
    ids=["python", "safetensors"],
)
def test_a_writer_that_fails_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "x").write_text("1")
        raise error

    with pytest.raises(StorageError, match=r"cannot write the cache .*: No space left on device; free space"):
        cache.put("ab12", fail, kind="prune", model="")
    assert not list((tmp_path / "stages" / "ab").iterdir())
    assert cache.get("ab12") is None


WRITER = """
import os, signal, sys
from pathlib import Path
from search.cache import Cache

cache = Cache(Path(sys.argv[1]))

def write(folder):
    (folder / "model.safetensors").write_bytes(b"half")
    print("writing", flush=True)
    signal.pause()

with cache.computing("ab12"):
    cache.put("ab12", write, kind="distill", model="m")
"""


def test_a_writer_that_is_killed_leaves_no_entry_and_blocks_nobody(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
    cache = Cache(tmp_path)
    assert cache.get("ab12") is None
    assert keys(cache) == []
    with cache.computing("ab12"):
        put(cache, "ab12")
    assert keys(cache) == ["ab12"]
    (store,) = cache.stores.values()
    assert list(store.leftovers()) == [], "it might still be written"
    for path in (tmp_path / "stages" / "ab").glob(".*"):
        for part in (path, *path.iterdir()):
            age(part, 2)
    left = list(store.leftovers())
    assert [leftover.bytes for leftover in left] == [4]
    store.sweep(left[0])
    assert [p.name for p in (tmp_path / "stages" / "ab").iterdir()] == ["ab12"]


def test_the_lock_of_a_living_process_is_not_swept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    (store,) = cache.stores.values()
    with cache.computing("ab12"):
        (lock,) = (tmp_path / "stages" / "ab").iterdir()
        age(lock, 2)
        for leftover in store.leftovers():
            store.sweep(leftover)
        assert lock.exists()


def test_entries_know_what_they_are(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    put(cache, "ab12", "12345", kind="distill")
    (store,) = cache.stores.values()
    (entry,) = store.entries()
    assert (entry.key, entry.kind, entry.model) == ("ab12", "distill", "models.py:cnn")
    assert entry.bytes > 5
    assert abs(entry.created - time.time()) < 60


def test_over_its_limit_the_least_recently_used_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit="10kB")
    for i in range(4):
        age(put(cache, f"a{i}", "x" * 2000), hours=10 - i)
    assert cache.get("a0") is not None  # and thereby the most recently used
    put(cache, "a4", "x" * 2000)
    assert keys(cache) == ["a0", "a2", "a3", "a4"]
    put(cache, "a5", "x" * 3000)
    assert keys(cache) == ["a0", "a4", "a5"], "room for more than the one that was put"
    assert cache.complaint == ""


def test_what_was_used_within_the_hour_stays_even_over_the_limit(tmp_path: Path) -> None:
    cache = Cache(tmp_path, limit="5kB")
    for i in range(4):
        put(cache, f"a{i}", "x" * 2000)
    assert len(keys(cache)) == 4
    assert "more than COMPARETO_CACHE_LIMIT=5kB" in cache.complaint
    for folder in (tmp_path / "stages" / "a0").parent.glob("a?/a?"):
        age(folder, 2)
    os.utime(tmp_path / "stages" / "overfull", (0, 0))  # as it is five minutes later
    put(cache, "a9", "x" * 2000)
    assert len(keys(cache)) == 2
    assert cache.complaint == ""


def test_room_is_counted_and_not_walked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from search.cache import size_limit

    put(Cache(tmp_path, limit="1GB"), "a0")
    walks = []
    monkeypatch.setattr(size_limit, "entry_folders", lambda root: walks.append(root) or [])
    cache = Cache(tmp_path, limit="1GB")
    for i in range(1, 5):
        put(cache, f"a{i}")
    assert walks == []
    (store,) = cache.stores.values()
    assert int((tmp_path / "stages" / "usage").read_text()) == sum(entry.bytes for entry in store.entries())


def test_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPARETO_CACHE_LIMIT", "none")
    assert Cache(tmp_path).limit is None


@pytest.mark.parametrize("text", ["20", "twenty GB", "-5GB", "5 parsecs", "GB", "nan GB"])
def test_a_malformed_limit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("COMPARETO_CACHE_LIMIT", text)
    with pytest.raises(UserError, match=r"COMPARETO_CACHE_LIMIT: '.*' is not accepted; accepted: a size such as 5GB"):
        Cache(tmp_path)


def test_another_layout_is_one_clear_error_naming_both(tmp_path: Path) -> None:
    put(Cache(tmp_path), "ab12")
    (tmp_path / "stages" / "layout").write_text("7\n")
    with pytest.raises(UserError, match=r"has layout '7', this version of compareto reads layout 2"):
        Cache(tmp_path)


def test_entries_of_the_first_layout_are_read(tmp_path: Path) -> None:
    folder = put(Cache(tmp_path), "ab12")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({name: file["sha256"] for name, file in manifest["files"].items()}))
    (tmp_path / "stages" / "layout").unlink()
    cache = Cache(tmp_path)
    assert cache.get("ab12") == folder
    (store,) = cache.stores.values()
    assert [(e.kind, e.model) for e in store.entries()] == [("unknown", "")]
    changed(folder)
    assert Cache(tmp_path).get("ab12") is None


def test_a_root_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write the cache .*Not a directory"):
        Cache(tmp_path / "file")


def test_a_read_only_disk_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Cache(tmp_path), "ab12")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(StorageError, match=r"cannot write the cache .*read-only"):
        Cache(tmp_path)


def test_a_file_uri_is_the_folder_itself(tmp_path: Path) -> None:
    put(Cache(tmp_path / "a b"), "ab12")
    cache = Cache(f"file://{tmp_path}/a%20b")
    assert cache.get("ab12") == tmp_path / "a b" / "stages" / "ab" / "ab12"
    assert cache.location == str(tmp_path / "a b")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3:/bucket", r"not a URI; did you mean 's3://bucket'"),
        ("file://share/x", r"with three slashes"),
        ("memry://bucket", r"no file system 'memry'; .*did you mean 'memory'"),
        ("gs://bucket/cache", r"needs a package that is not installed: pip install gcsfs"),
    ],
)
def test_a_location_that_is_none(uri: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Cache(uri)
