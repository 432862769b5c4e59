"""Raw examples: from scikit-learn's digits, ``datasets`` files, folders or hub ids to columns of arrays per split."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from compressors.errors import UserError, near_miss
from evaluators.hub import first_line, hub_access
from evaluators.tasks.specification import DataSpec, SplitSpec

__all__ = ["Source", "load_source"]

_READERS = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "json"}


class Source:
    """Source splits as sequences of examples, and the label names where the source knows them."""

    def __init__(self, splits: dict[str, Any], label_names: tuple[str, ...] | None) -> None:
        self.splits = splits
        self.label_names = label_names

    def resolve(self, spec: DataSpec, *, in_order: bool = False) -> dict[str, tuple[str, np.ndarray[Any, np.dtype[np.int64]]]]:
        """For each of our splits, the source split and the indices it takes: of a shuffle, or in order, as running text needs it.

        Raises:
            UserError: a source split that is not there, or a split without examples.
        """
        chosen = {**self._defaults(spec), **spec.splits}
        taken: dict[str, tuple[str, np.ndarray[Any, np.dtype[np.int64]]]] = {}
        for name, split in chosen.items():
            if split.source not in self.splits:
                there = ", ".join(self.splits)
                raise UserError(f"data.splits.{name}: no source split {split.source!r}; present: {there}{near_miss(split.source, self.splits)}")
            total = len(self.splits[split.source])
            order = np.arange(total) if in_order else np.random.default_rng(spec.seed).permutation(total)
            order = order[split.skip :][: split.take][: spec.max_samples]
            if not len(order):
                raise UserError(f"data.splits.{name}: no example is left; {split.source!r} has {total}, skip is {split.skip}")
            taken[name] = (split.source, order)
        if "calibration" not in taken:
            source, order = taken["train"]
            taken["calibration"] = (source, order[:256])
        for first, second in (("train", "search"), ("train", "report"), ("search", "report")):
            (left, a), (right, b) = taken[first], taken[second]
            if left == right and (shared := np.intersect1d(a, b).size):
                raise UserError(f"data.splits.{second}: shares {shared} examples with {first}; keep them apart by skip and take")
        return taken

    def _defaults(self, spec: DataSpec) -> dict[str, SplitSpec]:
        names = list(self.splits)
        train = "train" if "train" in names else names[0]
        total = len(self.splits[train])
        held = next((name for name in ("test", "validation", "valid", "dev") if name in names and name != train), None)
        report = 0 if held else max(1, total // 4)
        search = max(1, (total - report) // 5)
        defaults = {
            "report": SplitSpec(source=held) if held else SplitSpec(source=train, take=report),
            "search": SplitSpec(source=train, skip=report, take=search),
            "train": SplitSpec(source=train, skip=report + search),
        }
        return {name: split for name, split in defaults.items() if name not in spec.splits}


def load_source(spec: DataSpec, folder: Path) -> Source:
    """Open the source that ``spec`` names; relative paths start at ``folder``.

    Raises:
        UserError: a missing file or folder, an unknown format, an empty dataset, or a hub that cannot be reached.
    """
    if spec.dataset == "sklearn/digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (digits.images * (255 / 16)).round().astype(np.uint8)
        rows = [{"image": image, "label": int(label)} for image, label in zip(images, digits.target, strict=True)]
        return Source({"all": rows}, tuple(str(i) for i in range(10)))
    splits = _from_files(spec, folder) if spec.files else _from_dataset(str(spec.dataset), folder)
    for name, data in splits.items():
        if not len(data):
            raise UserError(f"data: source split {name!r} is empty")
    label = spec.columns.get("label", "label")
    feature = next(iter(splits.values())).features.get(label)
    names = getattr(feature, "names", None)
    return Source(splits, tuple(names) if names else None)


def _from_files(spec: DataSpec, folder: Path) -> dict[str, Any]:
    import datasets

    splits: dict[str, Any] = {}
    for name, text in spec.files.items():
        path = folder / text
        if not path.is_file():
            raise UserError(f"data.files.{name}: no file {path}")
        if path.suffix not in _READERS:
            raise UserError(f"data.files.{name}: {path.name} has no known format; accepted: {', '.join(_READERS)}")
        with _reading(f"data.files.{name}", path):
            # Under a name that datasets accepts: to it, ours may be odd or reserved, such as `all`.
            splits[name] = datasets.load_dataset(_READERS[path.suffix], data_files={"train": str(path)}, split="train")
    return splits


def _from_dataset(name: str, folder: Path) -> dict[str, Any]:
    import datasets

    local = folder / name
    if local.is_dir():
        with _reading("data.dataset", local):
            return dict(datasets.load_dataset("imagefolder", data_dir=str(local)))
    if name.startswith((".", "/", "assets/")) or name.count("/") > 1:
        raise UserError(f"data.dataset: no folder {local}")
    with hub_access("data.dataset", name), _silent_datasets():
        return dict(datasets.load_dataset(name))


@contextmanager
def _reading(place: str, path: Path) -> Iterator[None]:
    """Whatever the readers raise, of a dozen classes, as one message about ``path``; what went wrong is often in the cause."""
    folder = path.is_dir()
    try:
        with _silent_datasets():
            yield
    except Exception as error:
        if "corresponds to no data" in str(error) or type(error).__name__ == "EmptyDatasetError" or (not folder and not path.stat().st_size):
            raise UserError(f"{place}: {path} {'holds no images; accepted: a folder of images, one sub-folder a class' if folder else 'is empty'}") from error
        raise UserError(f"{place}: cannot read {path}: {first_line(error.__cause__ or error)}") from error


@contextmanager
def _silent_datasets() -> Iterator[None]:
    """Neither progress bars nor a log line for what is raised as well."""
    import datasets
    from datasets.utils import logging

    level, bars = logging.get_verbosity(), not datasets.are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()
