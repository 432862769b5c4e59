"""From the ``data:`` section to a task with its examples in memory."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.hub import local_or_hub
from evaluators.images import decode_image
from evaluators.models import ModelSpec, input_names
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.causal_lm import CausalLanguageModelling
from evaluators.tasks.image_classification import ImageClassification
from evaluators.tasks.source import Source, load_source
from evaluators.tasks.specification import DataSpec, Workload
from evaluators.tasks.text_classification import TextClassification

__all__ = ["make_task", "tokenizer_of"]


def make_task(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path) -> ArrayTask:
    """Load, split and preprocess.

    Args:
        data: the source and its splits.
        model: says the task, the tokenizer and the input's name.
        workload: sizes of the example inputs.
        folder: where relative paths start.

    Raises:
        UserError: a missing file, split or column, an empty dataset, a tokenizer that cannot be loaded.
    """
    source = load_source(data, folder)
    if model.task == "image-classification":
        return _images(data, model, workload, folder, source)
    return _texts(data, model, workload, folder, source)


def _column(source: Source, split: str, data: DataSpec, role: str) -> str:
    name = data.columns.get(role, role)  # type: ignore[call-overload]
    rows = source.splits[split]
    present = list(rows[0]) if isinstance(rows, list) else list(rows.column_names)
    if name not in present:
        raise UserError(f"data.columns.{role}: no column {name!r} in split {split!r}; present: {', '.join(present)}{near_miss(name, present)}")
    return str(name)


def _select(source: Source, split: str, indices: NDArray[np.int64]) -> Any:
    rows = source.splits[split]
    return [rows[int(i)] for i in indices] if isinstance(rows, list) else rows.select(indices.tolist())


def _labels(values: list[Any], names: list[str]) -> NDArray[np.int64]:
    if values and isinstance(values[0], str):
        position = {name: i for i, name in enumerate(names)}
        return np.array([position[v] for v in values], dtype=np.int64)
    labels = np.array(values, dtype=np.int64)
    if labels.min() < 0:
        raise UserError(f"data.columns.label: found the label {labels.min()}, which marks an example without one; accepted: integers from 0")
    return labels


def _label_names(source: Source, data: DataSpec) -> list[str]:
    if source.label_names:
        return list(source.label_names)
    values: set[Any] = set()
    for split in source.splits:
        column = _column(source, split, data, "label")
        rows = source.splits[split]
        values |= {row[column] for row in rows} if isinstance(rows, list) else set(rows[column])
    if all(isinstance(v, str) for v in values):
        return sorted(values)
    if any(v is None or v != v for v in values):  # NaN: what a reader makes of a missing number
        raise UserError(f"data.columns.label: column {data.columns.get('label', 'label')!r} has examples without a label; remove them from the data")
    odd = next((v for v in values if isinstance(v, bool) or not isinstance(v, int) or v < 0), None)
    if odd is not None:
        raise UserError(f"data.columns.label: found the label {odd!r}; accepted: texts, or integers from 0")
    return [str(i) for i in range(int(max(values)) + 1)]


def _images(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path, source: Source) -> ArrayTask:
    pre = data.preprocessing
    names = _label_names(source, data)
    key = input_names(model, folder)[0]
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data).items():
        image, label = _column(source, split, data, "image"), _column(source, split, data, "label")
        rows = _select(source, split, indices)
        try:
            images = [decode_image(row[image], pre.image_size) for row in rows]
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"data.columns.image: column {image!r} of {split!r} holds something that is no image: {error}") from error
        if len({i.shape[0] for i in images}) > 1:
            images = [np.broadcast_to(i, (3, *i.shape[1:])) for i in images]
        if len({i.shape for i in images}) > 1:
            raise UserError(f"data.preprocessing.image_size: not given, but the images of {split!r} differ in size; accepted: a number of pixels")
        arrays[name] = {key: np.stack(images), "labels": _labels([row[label] for row in rows], names)}
    channels = arrays["train"][key].shape[1]
    for field, values in (("mean", pre.mean), ("std", pre.std)):
        if len(values) not in (1, channels):
            counts = "1" if channels == 1 else f"1 or {channels}"
            raise UserError(f"data.preprocessing.{field}: {len(values)} values for images with {channels} channel{'s' * (channels > 1)}; accepted: {counts}")
    task = ImageClassification(
        arrays=arrays,
        fingerprint=_fingerprint(arrays, data),
        example_inputs={},
        classes=len(names),
        label_names=tuple(map(str, names)),
        description={"input": key, "scale": 1 / 255, "mean": list(pre.mean), "std": list(pre.std), "shape": list(arrays["train"][key].shape[1:])},
        mean=pre.mean,
        std=pre.std,
        augmentations=pre.augment,
    )
    task = _with_examples(task, workload.batch)  # type: ignore[assignment]
    if workload.image_size is not None:
        size = (workload.image_size, workload.image_size)
        task.example_inputs = {k: torch.nn.functional.interpolate(v, size) for k, v in task.example_inputs.items()}
    return task


def _with_examples(task: ArrayTask, batch: int) -> ArrayTask:
    inputs, _ = task.raw("train", 0, batch)
    repeated = {k: np.resize(v, (batch, *v.shape[1:])) for k, v in inputs.items()}
    task.example_inputs = {k: torch.from_numpy(v) for k, v in task.prepare(repeated).items()}
    return task


def tokenizer_of(data: DataSpec, model: ModelSpec, folder: Path) -> Any:
    """The tokenizer that ``data`` or ``model`` names.

    Raises:
        UserError: there is none, or it cannot be loaded.
    """
    from transformers import AutoTokenizer

    name = data.preprocessing.tokenizer or model.pretrained
    if name is None:
        raise UserError("data.preprocessing.tokenizer: missing; a factory model on texts needs a folder or hub id")
    with local_or_hub("data.preprocessing.tokenizer", name, folder) as source:
        return AutoTokenizer.from_pretrained(source)


def _texts(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path, source: Source) -> ArrayTask:
    tokenizer = tokenizer_of(data, model, folder)
    sequence = data.preprocessing.sequence
    labelled = model.task == "text-classification"
    names = _label_names(source, data) if labelled else []
    accepted = (*input_names(model, folder), "labels")
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data, in_order=not labelled).items():
        column = _column(source, split, data, "text")
        rows = _select(source, split, indices)
        texts = [row[column] for row in rows]
        odd = next((text for text in texts if not isinstance(text, str)), "")
        if not isinstance(odd, str):
            raise UserError(f"data.columns.text: found {odd!r} in column {column!r} of {split!r}; accepted: texts")
        if labelled:
            label = _column(source, split, data, "label")
            encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=sequence, return_tensors="np")
            arrays[name] = {
                "input_ids": encoded["input_ids"].astype(np.int64),
                "attention_mask": encoded["attention_mask"].astype(np.int64),
                "labels": _labels([row[label] for row in rows], names),
            }
        else:
            arrays[name] = _blocks(tokenizer, texts, sequence, name)
        arrays[name] = {key: value for key, value in arrays[name].items() if key in accepted}
    cls = TextClassification if labelled else CausalLanguageModelling
    task = cls(
        arrays=arrays,
        fingerprint=_fingerprint(arrays, data),
        example_inputs={},
        classes=len(names) if labelled else len(tokenizer),
        label_names=tuple(map(str, names)),
        description={"sequence": sequence, "tokenizer": "tokenizer"},
        special_tokens=tuple(tokenizer.all_special_ids),
    )
    if isinstance(task, TextClassification):
        task.trims = model.pretrained is not None
    task = _with_examples(task, workload.batch)  # type: ignore[assignment]
    length = workload.sequence or sequence
    task.example_inputs = {k: _at_length(v, length) for k, v in task.example_inputs.items()}
    return task


def _at_length(value: torch.Tensor, length: int) -> torch.Tensor:
    times = -(-length // value.shape[1])
    return value.repeat(1, times)[:, :length].contiguous()


def _blocks(tokenizer: Any, texts: list[str], sequence: int, split: str) -> dict[str, NDArray[Any]]:
    """All texts in the source's order, a line each, cut into blocks of ``sequence`` tokens."""
    tokens = tokenizer("\n".join(texts), add_special_tokens=False, verbose=False)["input_ids"]
    count = len(tokens) // sequence
    if not count:
        raise UserError(f"data.splits.{split}: {len(tokens)} tokens do not fill one block; preprocessing.sequence is {sequence}")
    blocks = np.array(tokens[: count * sequence], dtype=np.int64).reshape(count, sequence)
    labels = np.full_like(blocks, -100)
    labels[:, :-1] = blocks[:, 1:]
    return {"input_ids": blocks, "attention_mask": np.ones_like(blocks), "labels": labels}


def _fingerprint(arrays: dict[str, dict[str, NDArray[Any]]], data: DataSpec) -> str:
    digest = hashlib.sha256(json.dumps(data.preprocessing.model_dump(mode="json"), sort_keys=True).encode())
    for split in sorted(arrays):
        for name in sorted(arrays[split]):
            value = np.ascontiguousarray(arrays[split][name])
            digest.update(f"{split}/{name}/{value.dtype}/{value.shape}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()[:16]
