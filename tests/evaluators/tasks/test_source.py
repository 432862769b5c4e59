from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from compressors.errors import UserError
from evaluators.tasks import DataSpec
from evaluators.tasks.source import Source, load_source

TABLE = pd.DataFrame({"text": [f"text, {i}" for i in range(12)], "label": [i % 3 for i in range(12)]})


def written(folder: Path, name: str) -> str:
    path = folder / name
    if path.suffix == ".csv":
        TABLE.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        TABLE.to_parquet(path)
    else:
        TABLE.to_json(path, orient="records", lines=path.suffix == ".jsonl")
    return name


@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.json", "a.jsonl"])
def test_every_format_holds_the_same_rows(tmp_path: Path, name: str) -> None:
    source = load_source(DataSpec(files={"all": written(tmp_path, name)}), tmp_path)
    assert list(source.splits["all"]) == TABLE.to_dict("records")
    assert source.label_names is None


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    data = DataSpec(files={"train": written(tmp_path, "a.csv")})
    assert len(load_source(data, tmp_path).splits["train"]) == 12
    (tmp_path / "a.csv").write_text("text,label\nother,1\n")
    assert load_source(data, tmp_path).splits["train"][0] == {"text": "other", "label": 1}


def test_the_digits_come_with_scikit_learn() -> None:
    source = load_source(DataSpec(dataset="sklearn/digits"), Path())
    assert len(source.splits["all"]) == 1797
    assert source.label_names == tuple("0123456789")
    assert source.splits["all"][0]["image"].max() == 239  # 15 of 16 levels


def taken(sizes: dict[str, int], in_order: bool = False, **data: object) -> dict[str, tuple[str, np.ndarray]]:
    spec = DataSpec(dataset="sklearn/digits", **data)
    return Source({name: list(range(size)) for name, size in sizes.items()}, None).resolve(spec, in_order=in_order)


def sizes(found: dict[str, tuple[str, np.ndarray]]) -> dict[str, tuple[str, int]]:
    return {name: (split, len(rows)) for name, (split, rows) in found.items()}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"all": 1000}, {"report": ("all", 250), "search": ("all", 150), "train": ("all", 600), "calibration": ("all", 256)}),
        ({"train": 1000, "test": 90}, {"report": ("test", 90), "search": ("train", 200), "train": ("train", 800), "calibration": ("train", 256)}),
        ({"train": 100, "validation": 50}, {"report": ("validation", 50), "search": ("train", 20), "train": ("train", 80), "calibration": ("train", 80)}),
    ],
)
def test_what_splits_are_where_nobody_says(source: dict[str, int], expected: dict[str, tuple[str, int]]) -> None:
    found = taken(source)
    assert sizes(found) == expected
    assert not set(found["train"][1]) & set(found["search"][1])


def test_skip_take_and_max_samples_cut_one_shuffled_order() -> None:
    splits = {"search": {"from": "train", "take": 30}, "train": {"from": "train", "skip": 30}, "report": "test"}
    found = taken({"train": 100, "test": 40}, splits=splits)
    order = np.random.default_rng(0).permutation(100)
    assert (found["search"][1] == order[:30]).all()
    assert (found["train"][1] == order[30:]).all()
    assert sizes(taken({"train": 100, "test": 40}, splits=splits, max_samples=7)) == {
        "search": ("train", 7),
        "train": ("train", 7),
        "report": ("test", 7),
        "calibration": ("train", 7),
    }
    assert (taken({"train": 100, "test": 40}, splits=splits, in_order=True)["train"][1] == np.arange(30, 100)).all()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"splits": {"report": "tset"}}, r"data\.splits\.report: no source split 'tset'; present: train, test; did you mean 'test'\?"),
        ({"splits": {"search": {"from": "test", "skip": 40}}}, r"data\.splits\.search: no example is left; 'test' has 40, skip is 40"),
        ({"splits": {"search": "train"}}, r"data\.splits\.search: shares 80 examples with train"),
        ({"splits": {"search": {"from": "test", "take": 5}}}, r"data\.splits\.report: shares 5 examples with search"),
    ],
)
def test_splits_that_cannot_be_are_refused(data: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        taken({"train": 100, "test": 40}, **data)
