import threading
from pathlib import Path

import pytest

from compressors.errors import UserError
from search.cache import Cache


def test_what_was_put_is_found_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get("ab12") is None
    cache.put("ab12", lambda folder: (folder / "x").write_text("1") and None)
    found = Cache(tmp_path).get("ab12")
    assert found is not None
    assert (found / "x").read_text() == "1"


def test_a_corrupt_entry_is_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    folder = cache.put("ab12", lambda folder: (folder / "x").write_text("1") and None)
    (folder / "x").write_text("2")
    assert cache.get("ab12") is None
    assert not folder.exists()


def test_the_first_of_two_writers_wins(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def slow(folder: Path) -> None:
        Cache(tmp_path).put("ab12", lambda f: (f / "x").write_text("first") and None)
        (folder / "x").write_text("second")

    found = cache.put("ab12", slow)
    assert (found / "x").read_text() == "first"
    assert [p.name for p in found.parent.iterdir()] == ["ab12"]


def test_what_one_computes_others_wait_for(tmp_path: Path) -> None:
    computed: list[int] = []

    def work(number: int) -> None:
        cache = Cache(tmp_path)
        with cache.computing("ab12"):
            if cache.get("ab12") is None:
                computed.append(number)
                cache.put("ab12", lambda folder: (folder / "x").write_text("1") and None)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == 1
    assert [p.name for p in (tmp_path / "stages" / "ab").iterdir()] == ["ab12"]


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(folder: Path) -> None:
        (folder / "x").write_text("1")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left on device"):
        cache.put("ab12", fail)
    assert not list((tmp_path / "stages" / "ab").iterdir())


def test_a_root_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the cache"):
        Cache(tmp_path / "file")
