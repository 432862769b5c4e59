from pathlib import Path
from typing import Any

import pytest

from compressors.errors import UserError
from search.yaml_text import override, read_yaml


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    return path


def test_exponents_are_numbers(tmp_path: Path) -> None:
    assert read_yaml(write(tmp_path, "[1e-3, 1E3, 2.5e-4, .5e1, -1e2, 1e-3x, 12]")) == [1e-3, 1e3, 2.5e-4, 5.0, -100.0, "1e-3x", 12]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb:\n  c: 2\n  c: 3", "line 4: key 'c' was already given on line 3"),
        ("a: [1", "is not YAML"),
        ("a: !!python/object/apply:os.system [true]", "is not YAML"),
    ],
)
def test_bad_files_say_where(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_yaml(write(tmp_path, text))
    assert "file.yaml" in str(caught.value)


def test_a_file_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "image.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="cannot read"):
        read_yaml(tmp_path / "image.yaml")


def test_overrides_reach_into_mappings_and_lists() -> None:
    data: dict[str, Any] = {"search": {"trials": 48}, "fit": None, "recipe": [{"prune": {"ratio": 0.1}}, {"quantize": {}}]}
    override(data, ["search.trials=4", "recipe[0].prune.ratio={uniform: [0, 1e-1]}", "recipe.1.quantize.mode=dynamic", "fit.epochs=3", "search.hours=null"])
    assert data == {
        "search": {"trials": 4, "hours": None},
        "fit": {"epochs": 3},
        "recipe": [{"prune": {"ratio": {"uniform": [0, 0.1]}}}, {"quantize": {"mode": "dynamic"}}],
    }


@pytest.mark.parametrize("text", ["search.trials", "=4", "recipe[7].prune=1", "name.deeper=1", "search.trials=[", "recipe.prune=1"])
def test_overrides_that_fit_nowhere_are_errors(text: str) -> None:
    with pytest.raises(UserError, match="cannot set"):
        override({"search": {}, "name": "x", "recipe": [{}]}, [text])
