"""Columns of a source as arrays of inputs and labels."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.head_names import head_names, numbered_by
from evaluators.images import decode_image
from evaluators.model_spec import ModelSpec
from evaluators.tasks.source import Source
from evaluators.tasks.specification import DataSpec

__all__ = ["column_of", "named", "numbers", "selected", "target_images", "targets"]


def column_of(source: Source, split: str, data: DataSpec, role: str) -> str:
    """The column of a role, which must be there."""
    name = data.columns.get(role, role)  # type: ignore[call-overload]
    if not isinstance(name, str):
        raise UserError(f"data.columns.{role}: got a list of columns; accepted: one")
    rows = source.splits[split]
    present = list(rows[0]) if isinstance(rows, list) else list(rows.column_names)
    if name not in present:
        raise UserError(f"data.columns.{role}: no column {name!r} in split {split!r}; present: {', '.join(present)}{near_miss(name, present)}")
    return str(name)


def selected(source: Source, split: str, indices: NDArray[np.int64]) -> Any:
    """Rows of a split."""
    rows = source.splits[split]
    return [rows[int(i)] for i in indices] if isinstance(rows, list) else rows.select(indices.tolist())


def _labels(values: list[Any], names: list[str], source: Source) -> NDArray[np.int64]:
    if values and isinstance(values[0], str):
        position = {name: i for i, name in enumerate(names)}
        return np.array([position[v] for v in values], dtype=np.int64)
    labels = np.array(values, dtype=np.int64)
    if labels.min() < 0:
        raise UserError(f"data.columns.label: found the label {labels.min()}, which marks an example without one; accepted: integers from 0")
    if source.label_names and list(source.label_names) != names:
        labels = np.array([names.index(name) for name in source.label_names], dtype=np.int64)[labels]
    return labels


def _label_names(model: ModelSpec, source: Source, data: DataSpec, folder: Path) -> list[str]:
    """In the order of the model's head, where it has names for them; else as the source has them, or sorted."""
    if source.label_names:
        return numbered_by(head_names(model, folder), source.label_names)
    values: set[Any] = set()
    for split in source.splits:
        column = column_of(source, split, data, "label")
        rows = source.splits[split]
        found = [row[column] for row in rows] if isinstance(rows, list) else rows[column]
        if (many := next((v for v in found if not isinstance(v, Hashable)), None)) is not None:
            several = f"{model.takes}-multi-label has lists of 0 and 1"
            raise UserError(f"data.columns.label: found {many!r:.80} in column {column!r} of {split!r}; accepted: texts, or integers from 0; {several}")
        values.update(found)
    if all(isinstance(v, str) for v in values):
        return numbered_by(head_names(model, folder), sorted(values), place="data.columns.label")
    if any(v is None or v != v for v in values):  # NaN: what a reader makes of a missing number
        raise UserError(f"data.columns.label: column {data.columns.get('label', 'label')!r} has examples without a label; remove them from the data")
    odd = next((v for v in values if isinstance(v, bool) or not isinstance(v, int) or v < 0), None)
    if odd is not None:
        raise UserError(f"data.columns.label: found the label {odd!r}; accepted: texts, or integers from 0")
    return [str(i) for i in range(int(max(values)) + 1)]


def numbers(source: Source, split: str, data: DataSpec, role: str, rows: Any) -> NDArray[np.float32]:
    """One column of numbers or lists, or several columns of one number each, ``[examples, ...]``."""
    name = data.columns.get(role, role)  # type: ignore[call-overload]
    try:
        if isinstance(name, str):
            column = column_of(source, split, data, role)
            found = np.array([row[column] for row in rows], dtype=np.float32)
        else:
            present = list(rows[0])
            missing = next((each for each in name if each not in present), None)
            if missing is not None:
                raise UserError(f"data.columns.{role}: no column {missing!r} in split {split!r}{near_miss(missing, present)}")
            found = np.array([[row[each] for each in name] for row in rows], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise UserError(f"data.columns.{role}: split {split!r} holds something else than numbers, or examples of different length: {error}") from error
    if not np.isfinite(found).all():
        raise UserError(f"data.columns.{role}: split {split!r} holds numbers that are missing or not finite; remove these examples")
    return found.reshape(len(found), -1) if role == "label" else found


def named(model: ModelSpec, source: Source, data: DataSpec, folder: Path) -> list[str]:
    """Names of what the head has outputs for; of numbers those of their columns."""
    if model.kind in ("classification", "token-classification"):
        return _label_names(model, source, data, folder) if model.kind == "classification" else _token_names(source, data)
    columns = data.columns.get("label", "label")
    return [] if model.kind in ("causal-lm", "image-to-image") else [columns] if isinstance(columns, str) else list(columns)


def targets(model: ModelSpec, source: Source, split: str, data: DataSpec, rows: Any, names: list[str]) -> NDArray[Any]:
    """Labels as the head of the task takes them."""
    if model.kind == "classification":
        label = column_of(source, split, data, "label")
        return _labels([row[label] for row in rows], names, source)
    found = numbers(source, split, data, "label", rows)
    if model.kind == "multi-label" and not np.isin(found, (0, 1)).all():
        odd = found[~np.isin(found, (0, 1))][0]
        raise UserError(f"data.columns.label: found {odd:g}; accepted for {model.task}: 0 and 1, in a column for each label or in lists of one length")
    return found


def _token_names(source: Source, data: DataSpec) -> list[str]:
    values: set[Any] = {0}
    for split in source.splits:
        column = column_of(source, split, data, "label")
        try:
            for row in source.splits[split]:
                values.update(row[column])
            least = min(values - {-100})
        except TypeError as error:
            raise UserError(f"data.columns.label: column {column!r} of {split!r} holds something else than lists of integers") from error
        if least < 0:
            accepted = "integers from 0, or -100 for a word without one"
            raise UserError(f"data.columns.label: found the label {least} in column {column!r} of {split!r}; accepted: {accepted}")
    return [str(i) for i in range(int(max(values)) + 1)]


def target_images(source: Source, split: str, data: DataSpec, rows: Any) -> NDArray[np.float32]:
    """Images from 0 to 1, ``[examples, channels, height, width]``."""
    target = column_of(source, split, data, "target")
    try:
        images = [decode_image(row[target], None) for row in rows]
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"data.columns.target: column {target!r} of {split!r} holds something that is no image: {error}") from error
    if len({i.shape for i in images}) > 1:
        raise UserError(f"data.columns.target: the images of {split!r} differ in size")
    return np.stack(images).astype(np.float32) / np.float32(255)
