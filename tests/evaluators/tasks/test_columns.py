"""Labels that are no classes."""

import json
from pathlib import Path

import pytest

from compressors.errors import UserError
from evaluators.model_spec import ModelSpec
from evaluators.tasks.columns import named
from evaluators.tasks.source import load_source
from evaluators.tasks.specification import DataSpec


def names(folder: Path, task: str, labels: list[object]) -> list[str]:
    (folder / "rows.jsonl").write_text("\n".join(json.dumps({"truth": label}) for label in labels))
    data = DataSpec(files={"all": "rows.jsonl"}, columns={"label": "truth"})
    return named(ModelSpec(factory="a.py:b", task=task), load_source(data, folder), data, folder)


def test_a_list_is_no_class(tmp_path: Path) -> None:
    said = r"data\.columns\.label: found \[0\] in column 'truth' of 'all'; accepted: texts, or integers from 0; image-multi-label has lists of 0 and 1"
    with pytest.raises(UserError, match=said):
        names(tmp_path, "image-classification", [[0], [1]])


def test_classes_of_words_start_at_nought(tmp_path: Path) -> None:
    assert names(tmp_path, "token-classification", [[0, -100], [], [2]]) == ["0", "1", "2"]
    said = r"data\.columns\.label: found the label -1 in column 'truth' of 'all'; accepted: integers from 0, or -100 for a word without one"
    with pytest.raises(UserError, match=said):
        names(tmp_path, "token-classification", [[0, -100], [-1, 1]])
    with pytest.raises(UserError, match="holds something else than lists of integers"):
        names(tmp_path, "token-classification", [["a"], ["b"]])
