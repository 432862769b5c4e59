"""From the ``data:`` section to a task with its examples in memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressors.errors import UserError, near_miss
from evaluators.functions import load_function
from evaluators.hub import local_or_hub
from evaluators.images import decode_image
from evaluators.models import ModelSpec, input_names
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.causal_lm import CausalLanguageModelling
from evaluators.tasks.continuations import judged_by_continuations
from evaluators.tasks.heads import Classification, head_of
from evaluators.tasks.image_classification import ImageClassification
from evaluators.tasks.measures import measures_of
from evaluators.tasks.quality import quality_metrics
from evaluators.tasks.source import Source, load_source
from evaluators.tasks.specification import DataSpec, MeanMetric, OwnMetric, Workload
from evaluators.tasks.tagging import tagged
from evaluators.tasks.task import Task
from evaluators.tasks.text_classification import TextClassification
from evaluators.tasks.waveforms import waveforms

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
    if model.own_task is not None:
        return _own(data, model, workload, folder)
    source = load_source(data, folder)
    made = {"image": _images, "text": _texts, "series": _series, "audio": _series}[model.takes](data, model, workload, folder, source)
    task = judged(made, data, model, folder)
    if task.name == "causal-lm":
        return judged_by_continuations(task, data, model, folder)
    return task


def judged(task: ArrayTask, data: DataSpec, model: ModelSpec, folder: Path) -> ArrayTask:
    """With the head that the task has, and the metrics that the data names.

    Raises:
        UserError: a metric that does not fit the task or its classes, a function that cannot be loaded.
    """
    quality = quality_metrics(model, data)
    if any(metric.name == "f1" for metric in quality) and task.classes != 2:
        raise UserError(f"data.metrics: 'f1' is of the second of two classes; the data has {task.classes}; accepted: f1_macro")
    head = Classification() if model.kind == "causal-lm" else head_of(model.kind)
    plain = model.kind in ("classification", "causal-lm") and not data.metrics
    specs = data.metrics or tuple(metric.name for metric in quality)
    measures = {} if plain or model.kind == "causal-lm" else measures_of(specs, model.kind, folder)
    key = _metrics_key(task.fingerprint, data, folder) if data.metrics else task.fingerprint
    return dataclasses.replace(task, name=model.task, quality=quality, head=head, measures=measures, fingerprint=key)


def _metrics_key(fingerprint: str, data: DataSpec, folder: Path) -> str:
    """What was evaluated by other metrics, or by another version of a function, is no answer to these."""
    digest = hashlib.sha256(f"{fingerprint}{[spec if isinstance(spec, str) else spec.model_dump_json() for spec in data.metrics]}".encode())
    for spec in data.metrics:
        for part in spec.mean if isinstance(spec, MeanMetric) else (spec,):
            place = part.function.rpartition(":")[0] if isinstance(part, OwnMetric) else ""
            if place.endswith(".py") and (folder / place).is_file():
                digest.update((folder / place).read_bytes())
    return digest.hexdigest()[:16]


def _own(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path) -> ArrayTask:
    task = load_function(model.task, folder, "model.task")(data=data, model=model, workload=workload, folder=folder)
    if not isinstance(task, Task):
        raise UserError(f"model.task: {model.task} returns {type(task).__name__}; accepted: an evaluators.tasks.Task")
    names, wanted = [metric.name for metric in task.quality], [metric.name for metric in quality_metrics(model, data)]
    if names[: len(wanted)] != wanted and names != wanted[:-1]:
        raise UserError(f"model.task: {model.task} is judged by {', '.join(names)}, data.metrics says {', '.join(wanted)}; accepted: the same")
    return task  # type: ignore[return-value]  # what is used of it is Task's


def _column(source: Source, split: str, data: DataSpec, role: str) -> str:
    name = data.columns.get(role, role)  # type: ignore[call-overload]
    if not isinstance(name, str):
        raise UserError(f"data.columns.{role}: got a list of columns; accepted: one")
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


def _numbers(source: Source, split: str, data: DataSpec, role: str, rows: Any) -> NDArray[np.float32]:
    """One column of numbers or lists, or several columns of one number each, ``[examples, ...]``."""
    name = data.columns.get(role, role)  # type: ignore[call-overload]
    try:
        if isinstance(name, str):
            column = _column(source, split, data, role)
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


def _named(model: ModelSpec, source: Source, data: DataSpec) -> list[str]:
    """Names of what the head has outputs for; of numbers those of their columns."""
    if model.kind in ("classification", "token-classification"):
        return _label_names(source, data) if model.kind == "classification" else _token_names(source, data)
    columns = data.columns.get("label", "label")
    return [] if model.kind in ("causal-lm", "image-to-image") else [columns] if isinstance(columns, str) else list(columns)


def _targets(model: ModelSpec, source: Source, split: str, data: DataSpec, rows: Any, names: list[str]) -> NDArray[Any]:
    if model.kind == "classification":
        label = _column(source, split, data, "label")
        return _labels([row[label] for row in rows], names)
    found = _numbers(source, split, data, "label", rows)
    if model.kind == "multi-label" and not np.isin(found, (0, 1)).all():
        odd = found[~np.isin(found, (0, 1))][0]
        raise UserError(f"data.columns.label: found {odd:g}; accepted for {model.task}: 0 and 1, in a column for each label or in lists of one length")
    return found


def _token_names(source: Source, data: DataSpec) -> list[str]:
    most = 0
    for split in source.splits:
        column = _column(source, split, data, "label")
        rows = source.splits[split]
        try:
            most = max([most, *(max(row[column], default=0) for row in rows)])
        except TypeError as error:
            raise UserError(f"data.columns.label: column {column!r} of {split!r} holds something else than lists of integers") from error
    return [str(i) for i in range(int(most) + 1)]


def _series(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path, source: Source) -> ArrayTask:
    """Numbers as they are: tracks of sensors, or the samples of recordings."""
    pre, key = data.preprocessing, input_names(model, folder)[0]
    names = _named(model, source, data)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data).items():
        rows = _select(source, split, indices)
        if model.takes == "audio":
            column = _column(source, split, data, "audio")
            values = waveforms([row[column] for row in rows], pre.samples, f"data.columns.audio: column {column!r} of {split!r}")
        else:
            values = _numbers(source, split, data, "series", rows)
        if pre.shape is not None:
            if values[0].size != np.prod(pre.shape):
                raise UserError(f"data.preprocessing.shape: {list(pre.shape)} for examples of {values[0].size} numbers")
            values = values.reshape(len(values), *pre.shape)
        arrays[name] = {key: values, "labels": _targets(model, source, split, data, rows, names)}
    if len({parts[key].shape[1:] for parts in arrays.values()}) > 1:
        raise UserError("data: examples of the splits differ in length; accepted for audio: data.preprocessing.samples")
    task = ArrayTask(
        arrays=arrays,
        fingerprint=_fingerprint(arrays, data),
        example_inputs={},
        classes=len(names) if model.kind == "classification" else arrays["train"]["labels"].shape[-1],
        label_names=tuple(map(str, names)),
        description={"input": key, "shape": list(arrays["train"][key].shape[1:])},
    )
    return _with_examples(task, workload.batch)


def _images(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path, source: Source) -> ArrayTask:
    pre = data.preprocessing
    names = _named(model, source, data)
    key = input_names(model, folder)[0]
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data).items():
        image = _column(source, split, data, "image")
        rows = _select(source, split, indices)
        try:
            images = [decode_image(row[image], pre.image_size) for row in rows]
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"data.columns.image: column {image!r} of {split!r} holds something that is no image: {error}") from error
        if len({i.shape[0] for i in images}) > 1:
            images = [np.broadcast_to(i, (3, *i.shape[1:])) for i in images]
        if len({i.shape for i in images}) > 1:
            raise UserError(f"data.preprocessing.image_size: not given, but the images of {split!r} differ in size; accepted: a number of pixels")
        labels = _target_images(source, split, data, rows) if model.kind == "image-to-image" else _targets(model, source, split, data, rows, names)
        arrays[name] = {key: np.stack(images), "labels": labels}
    channels = arrays["train"][key].shape[1]
    for field, values in (("mean", pre.mean), ("std", pre.std)):
        if len(values) not in (1, channels):
            counts = "1" if channels == 1 else f"1 or {channels}"
            raise UserError(f"data.preprocessing.{field}: {len(values)} values for images with {channels} channel{'s' * (channels > 1)}; accepted: {counts}")
    task = ImageClassification(
        arrays=arrays,
        fingerprint=_fingerprint(arrays, data),
        example_inputs={},
        classes=len(names) if model.kind == "classification" else 0 if model.kind == "image-to-image" else arrays["train"]["labels"].shape[-1],
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


def _target_images(source: Source, split: str, data: DataSpec, rows: Any) -> NDArray[np.float32]:
    target = _column(source, split, data, "target")
    try:
        images = [decode_image(row[target], None) for row in rows]
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"data.columns.target: column {target!r} of {split!r} holds something that is no image: {error}") from error
    if len({i.shape for i in images}) > 1:
        raise UserError(f"data.columns.target: the images of {split!r} differ in size")
    return np.stack(images).astype(np.float32) / np.float32(255)


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
    labelled = model.task != "causal-lm"
    names = _named(model, source, data)
    accepted = (*input_names(model, folder), "labels")
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data, in_order=not labelled).items():
        column = _column(source, split, data, "text")
        rows = _select(source, split, indices)
        texts = [row[column] for row in rows]
        if model.kind == "token-classification":
            words, label = texts, _column(source, split, data, "label")
            arrays[name] = tagged(tokenizer, words, [row[label] for row in rows], sequence, f"data.columns: split {split!r}")
            arrays[name] = {key: value for key, value in arrays[name].items() if key in accepted}
            continue
        odd = next((text for text in texts if not isinstance(text, str)), "")
        if not isinstance(odd, str):
            raise UserError(f"data.columns.text: found {odd!r} in column {column!r} of {split!r}; accepted: texts")
        if labelled:
            encoded = tokenizer(texts, padding="max_length", truncation=True, max_length=sequence, return_tensors="np")
            arrays[name] = {
                "input_ids": encoded["input_ids"].astype(np.int64),
                "attention_mask": encoded["attention_mask"].astype(np.int64),
                "labels": _targets(model, source, split, data, rows, names),
            }
        else:
            arrays[name] = _blocks(tokenizer, texts, sequence, name)
        arrays[name] = {key: value for key, value in arrays[name].items() if key in accepted}
    cls = TextClassification if labelled else CausalLanguageModelling
    task = cls(
        arrays=arrays,
        fingerprint=_fingerprint(arrays, data),
        example_inputs={},
        classes=len(tokenizer)
        if not labelled
        else len(names)
        if model.kind in ("classification", "token-classification")
        else arrays["train"]["labels"].shape[-1],
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
    digest = hashlib.sha256(json.dumps(_preprocessing(data), sort_keys=True).encode())
    for split in sorted(arrays):
        for name in sorted(arrays[split]):
            value = np.ascontiguousarray(arrays[split][name])
            digest.update(f"{split}/{name}/{value.dtype}/{value.shape}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def _preprocessing(data: DataSpec) -> dict[str, Any]:
    """What was not asked for is left out where it is new: what was computed before such a key existed stays valid."""
    plain: dict[str, Any] = data.preprocessing.model_dump(mode="json")
    return {name: value for name, value in plain.items() if name not in ("shape", "samples") or value is not None}
