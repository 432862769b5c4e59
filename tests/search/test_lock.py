import dataclasses
from pathlib import Path

import pytest

from compressors.errors import UserError
from search.lock import RecipeLock

LOCK = RecipeLock("r" * 16, "m" * 16, "d" * 16, {"mean": [0.5]}, seed=3, versions={"torch": "2.13.0", "onnxruntime": "1.31.0"})


def test_file_round_trip(tmp_path: Path) -> None:
    LOCK.save(tmp_path / "recipe.lock")
    assert RecipeLock.load(tmp_path / "recipe.lock") == LOCK


def test_own_versions_are_pinned() -> None:
    assert {"python", "torch", "torchao", "onnxruntime"} <= RecipeLock("r", "m", "d").versions.keys()


def test_what_changes_the_result_is_a_conflict_and_a_version_is_drift() -> None:
    assert LOCK.conflicts(LOCK) == LOCK.drift(LOCK) == []
    other = dataclasses.replace(LOCK, data="e" * 16, seed=4, versions={"torch": "2.14.0"})
    assert LOCK.conflicts(other) == [f"data: locked {'d' * 16!r}, now {'e' * 16!r}", "seed: locked 3, now 4"]
    assert LOCK.drift(other) == ["torch: locked 2.13.0, now 2.14.0", "onnxruntime: locked 1.31.0, now missing"]


def test_a_fit_that_rounds_differently_is_drift_not_another_model() -> None:
    fitted = dataclasses.replace(LOCK, source="s" * 16)
    again = dataclasses.replace(fitted, model="n" * 16)
    assert fitted.conflicts(again) == []
    assert "fitted again" in fitted.drift(again)[0]
    assert dataclasses.replace(fitted, source="t" * 16).conflicts(again) == [f"source: locked {'t' * 16!r}, now {'s' * 16!r}"]


@pytest.mark.parametrize("text", ["3", "a: 1", "lock_version: 2", "lock_version: 1\nrecipe: x\nwrong: 1", "lock_version: ["])
def test_other_files_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.lock").write_text(text)
    with pytest.raises(UserError, match=r"recipe\.lock"):
        RecipeLock.load(tmp_path / "recipe.lock")
