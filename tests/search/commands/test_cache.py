import json
import os
import time
from pathlib import Path

import pytest

from search.cache import Cache
from search.cli import main


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """Three stages used 1, 3 and 40 days ago and a failure used now."""
    monkeypatch.setattr("search.cli.quiet_libraries", lambda: None)
    monkeypatch.setenv("COMPARETO_CACHE", str(tmp_path))
    found = Cache()
    for key, kind, days, size in (("a1", "distill", 40, 3000), ("b2", "distill", 3, 2000), ("c3", "evaluate", 1, 1000), ("d4", "failed distill", 0, 10)):
        folder = found.put(key, lambda folder, size=size: (folder / "x").write_bytes(bytes(size)), kind=kind, model="models.py:cnn")
        then = time.time() - 86400 * days
        os.utime(folder, (then, then))
    return found


def left(cache: Cache) -> list[str]:
    return sorted(entry.key for store in cache.stores.values() for entry in store.entries())


def test_a_listing_tells_stages_failures_and_the_limit_apart(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "list"]) == 0
    out = capsys.readouterr().out
    lines = {line.split("  ")[0]: line.split() for line in out.splitlines()}
    assert out.splitlines()[0].startswith(f"{cache.root}: 4 entries, 6.")
    assert "limit 20GB" in out.splitlines()[0]
    assert lines["distill"][1] == "2"
    assert lines["failed distill"][2] == "1"
    assert lines["models.py:cnn"][1] == "4"
    assert main(["cache", "list", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out).values()
    assert (found["entries"], found["kinds"]["evaluate"]["entries"], found["limit_bytes"]) == (4, 1, 20 * 10**9)
    assert left(cache) == ["a1", "b2", "c3", "d4"]


def test_an_empty_cache_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.cli.quiet_libraries", lambda: None)
    assert main(["cache", "list", "--cache", str(tmp_path / "new")]) == 0
    assert "0 entries, 0 B" in capsys.readouterr().out


def test_corrupt_entries_are_named_and_removed(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "verify"]) == 0
    assert "4 checked, 0 corrupt" in capsys.readouterr().out
    (cache.root / "b2" / "b2" / "x").write_bytes(b"\1" * 2000)
    (cache.root / "c3" / "c3" / "x").write_bytes(b"")
    for _ in range(2):
        assert main(["cache", "verify"]) == 1
    out = capsys.readouterr().out
    assert "b2 (distill): x was changed" in out
    assert "c3 (evaluate): x has 0 of 1000 bytes" in out
    assert "4 checked, 2 corrupt; they are removed with --remove" in out
    assert main(["cache", "verify", "--remove"]) == 1
    assert left(cache) == ["a1", "d4"]
    assert main(["cache", "verify"]) == 0


@pytest.mark.parametrize(
    ("arguments", "stay"),
    [
        (["--older-than", "30d"], ["b2", "c3", "d4"]),
        (["--older-than", "36h"], ["c3", "d4"]),
        (["--size", "4kB"], ["b2", "c3", "d4"]),
        (["--size", "1GB"], ["a1", "b2", "c3", "d4"]),
        (["--size", "0B"], ["d4"]),
        (["--older-than", "2d", "--size", "1kB"], ["d4"]),
        ([], ["a1", "b2", "c3", "d4"]),
    ],
)
def test_the_least_recently_used_are_pruned(cache: Cache, capsys: pytest.CaptureFixture[str], arguments: list[str], stay: list[str]) -> None:
    assert main(["cache", "prune", *arguments, "--dry-run"]) == 0
    assert f"{4 - len(stay)} entr" in capsys.readouterr().out
    assert left(cache) == ["a1", "b2", "c3", "d4"]
    assert main(["cache", "prune", *arguments]) == 0
    assert left(cache) == stay
    out = capsys.readouterr().out
    assert ("1 of them used within the last hour, and kept for that" in out) == (arguments[-1:] == ["0B"])


def test_leftovers_are_pruned(cache: Cache, capsys: pytest.CaptureFixture[str]) -> None:
    partial = cache.root / "a1" / ".a1-0123"
    partial.mkdir()
    (partial / "x").write_bytes(bytes(500))
    for path in (partial / "x", partial):
        os.utime(path, (0, 0))
    assert main(["cache", "prune"]) == 0
    assert "left behind by writers that died: 1, 500 B, removed" in capsys.readouterr().out
    assert not partial.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "5"], "--size: '5' is not accepted; accepted: a size such as 5GB"),
        (["--size", "5 days"], "--size: '5 days' is not accepted"),
        (["--older-than", "30"], "--older-than: '30' is not accepted; accepted: a duration such as 30d"),
        (["--older-than", "a month"], "--older-than: 'a month' is not accepted"),
    ],
)
def test_malformed_amounts(cache: Cache, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(["cache", "prune", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert left(cache) == ["a1", "b2", "c3", "d4"]


def test_an_object_store_and_its_local_folder_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("search.cli.quiet_libraries", lambda: None)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    uri = f"local://{tmp_path}/bucket"
    Cache(uri).put("ab12", lambda folder: (folder / "x").write_text("1"), kind="fit", model="m")
    assert main(["cache", "list", "--cache", uri]) == 0
    out = capsys.readouterr().out
    assert f"{tmp_path}/home/.cache/compareto/remote/" in out
    assert f"{uri}: 1 entry, 1 B (no limit of compareto's)" in out
    assert main(["cache", "verify", "--cache", uri]) == 0
    assert capsys.readouterr().out.count("1 checked, 0 corrupt") == 2
