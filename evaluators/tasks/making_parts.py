"""From ``data.parts`` to one task: each part is made as if it were alone, then they are given one set of classes and put together."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.head_names import head_names, numbered_by
from evaluators.model_spec import ModelSpec
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.part_errors import told_of
from evaluators.tasks.quality import quality_metrics
from evaluators.tasks.several_tasks import SeveralTasks, interleaved
from evaluators.tasks.specification import DataSpec
from evaluators.tasks.task import SPLITS

__all__ = ["several_tasks"]

_CALIBRATION = 256


def several_tasks(
    data: DataSpec, model: ModelSpec, make: Callable[[DataSpec], ArrayTask], judge: Callable[[ArrayTask, DataSpec], ArrayTask], folder: Path
) -> SeveralTasks:
    """All parts as one task.

    Args:
        data: with parts.
        model: one for all of them.
        make: reads and preprocesses the data of one part.
        judge: gives it its metrics.
        folder: where relative paths start.

    Raises:
        UserError: a part that cannot be read, that has inputs of another form than the others, or whose classes cannot be those of one head.
    """
    assert data.parts is not None
    quality, specs = quality_metrics(model, data), data.each
    made: dict[str, ArrayTask] = {}
    for name, spec in specs.items():
        with told_of(name):
            made[name] = make(spec)
        if not isinstance(made[name], ArrayTask):
            raise UserError(f"model.task: {model.task} returns {type(made[name]).__name__}; accepted for data.parts: an ArrayTask")
    _check_inputs(made)
    counts = {name: task.classes for name, task in made.items()}
    labelled = _labelled(made, head_names(model, folder)) if model.kind == "classification" else _one_head(made)
    parts: dict[str, ArrayTask] = {}
    for name, task in labelled.items():
        with told_of(name):
            parts[name] = judge(task, specs[name])
    first = next(iter(parts.values()))
    rows = _drawn(parts, data)
    arrays = {split: _spread([{k: v[rows[name][split]] for k, v in part.arrays[split].items()} for name, part in parts.items()]) for split in SPLITS}
    judged_on = {name: dataclasses.replace(part, arrays={split: part.arrays[split] for split in ("search", "report")}) for name, part in parts.items()}
    copied = {f.name: getattr(first, f.name) for f in dataclasses.fields(ArrayTask)}
    said = [[name, data.parts[name].weight, part.fingerprint, len(rows[name]["calibration"]), part.label_names] for name, part in parts.items()]
    key = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
    changed = {"arrays": arrays, "fingerprint": key, "quality": quality, "measures": {}}
    return SeveralTasks(**{**copied, **changed}, parts=judged_on, part_classes=counts)


def _check_inputs(made: Mapping[str, ArrayTask]) -> None:
    """One model takes inputs of one form, whatever part they are of."""
    (one, first), *others = made.items()
    wanted = _form(first)
    for name, task in others:
        for key, form in _form(task).items():
            if form != wanted[key]:
                accepted = "data.preprocessing that makes them the same (image_size, sequence, shape or samples)"
                raise UserError(f"data.parts.{name}: {key} is {form}, that of {one} {wanted[key]}; one model takes one; accepted: {accepted}")


def _form(task: ArrayTask) -> dict[str, str]:
    return {name: f"{value.dtype} {list(value.shape[1:])}" for name, value in task.arrays["train"].items() if name != "labels"}


def _one_head(made: Mapping[str, ArrayTask]) -> dict[str, ArrayTask]:
    """Labels that are no single classes, of one shape; of tokens, as many classes as any part has."""
    (one, first), *others = made.items()
    form = list(first.arrays["train"]["labels"].shape[1:])
    for name, task in others:
        own = list(task.arrays["train"]["labels"].shape[1:])
        if own != form:
            raise UserError(f"data.parts.{name}: a label has the shape {own}, those of {one} {form}; accepted: one shape, as one head has")
    most = max(made.values(), key=lambda task: task.classes)
    return {name: dataclasses.replace(task, classes=most.classes, label_names=most.label_names) for name, task in made.items()}


def _labelled(made: Mapping[str, ArrayTask], head: Sequence[str]) -> dict[str, ArrayTask]:
    """The same examples with the numbers that their classes have among those of all parts: in the order of a head or a part that has them all, else sorted.

    Raises:
        UserError: some parts have numbers and others names.
    """
    numbered = {name: task.label_names == tuple(map(str, range(task.classes))) for name, task in made.items()}
    if len(set(numbered.values())) > 1:
        odd, other = (next(name for name, numbers in numbered.items() if numbers is wanted) for wanted in (True, False))
        named = ", ".join(made[other].label_names[:5])
        raise UserError(f"data.parts.{odd}: labels are numbers, those of {other} names such as {named}; accepted: the same in each part, as one head has")
    every = {label for task in made.values() for label in task.label_names}
    names = next((task.label_names for task in made.values() if len(task.label_names) == len(every)), None) or tuple(sorted(every))
    names = tuple(numbered_by(head, names))
    place = {name: i for i, name in enumerate(names)}
    found = {}
    for part, task in made.items():
        numbers = np.array([place[name] for name in task.label_names], dtype=np.int64)
        arrays = {split: {**values, "labels": numbers[values["labels"]]} for split, values in task.arrays.items()}
        found[part] = dataclasses.replace(task, arrays=arrays, classes=len(names), label_names=names)
    return found


def _drawn(parts: Mapping[str, ArrayTask], data: DataSpec) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Which examples of each part's splits all draw from.

    Of ``train`` by weight; of ``calibration`` in the shares of training and as many together as one data set would give, unless the part says which.
    """
    assert data.parts is not None
    rows = {name: {split: np.arange(part.examples(split)) for split in SPLITS} for name, part in parts.items()}
    for name, each in rows.items():
        each["train"] = np.resize(each["train"], max(1, round(data.parts[name].weight * len(each["train"]))))
    total = sum(len(each["train"]) for each in rows.values())
    for name, spec in data.each.items():
        if "calibration" not in spec.splits:
            rows[name]["calibration"] = rows[name]["calibration"][: max(1, round(_CALIBRATION * len(rows[name]["train"]) / total))]
    return rows


def _spread(parts: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Examples of all parts, each spread evenly (see ``interleaved``)."""
    counts = [len(part["labels"]) for part in parts]
    which, place = interleaved(counts)
    rows = np.cumsum([0, *counts[:-1]])[which] + place
    return {name: np.concatenate([part[name] for part in parts])[rows] for name in parts[0]}
