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

from compressors.errors import UserError
from evaluators.functions import load_function
from evaluators.hub import local_or_hub
from evaluators.images import decode_image
from evaluators.models import ModelSpec, input_names
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.causal_lm import CausalLanguageModelling
from evaluators.tasks.columns import column_of, named, numbers, selected, target_images, targets
from evaluators.tasks.continuations import judged_by_continuations
from evaluators.tasks.heads import Classification, head_of
from evaluators.tasks.image_classification import ImageClassification
from evaluators.tasks.making_parts import several_tasks
from evaluators.tasks.measures import measures_of
from evaluators.tasks.quality import METRICS, quality_metrics
from evaluators.tasks.sequence_to_sequence import SequenceToSequence, judged_by_outputs, pairs, start_token
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
        UserError: a missing file, split or column, an empty dataset, a tokenizer that cannot be loaded; parts that do not fit one model.
    """
    if data.parts is not None:
        return several_tasks(
            data, model, lambda part: _made(part, model, workload, folder), lambda task, part: _with_metrics(task, part, model, folder), folder
        )
    return _with_metrics(_made(data, model, workload, folder), data, model, folder)


def _made(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path) -> ArrayTask:
    """Examples and preprocessing."""
    if model.own_task is not None:
        return _own(data, model, workload, folder)
    source = load_source(data, folder)
    if model.task == "seq2seq":
        return _text_pairs(data, model, workload, folder, source)
    return {"image": _images, "text": _texts, "series": _series, "audio": _series}[model.takes](data, model, workload, folder, source)


def _with_metrics(task: ArrayTask, data: DataSpec, model: ModelSpec, folder: Path) -> ArrayTask:
    if model.own_task is not None:
        return task
    task = judged(task, data, model, folder)
    if task.name == "causal-lm":
        return judged_by_continuations(task, data, model, folder)
    return judged_by_outputs(task, data, model, folder) if task.name == "seq2seq" else task


def judged(task: ArrayTask, data: DataSpec, model: ModelSpec, folder: Path) -> ArrayTask:
    """With the head that the task has, and the metrics that the data names.

    Raises:
        UserError: a metric that does not fit the task or its classes, a function that cannot be loaded.
    """
    quality = quality_metrics(model, data)
    if any(metric.name == "f1" for metric in quality) and task.classes != 2:
        raise UserError(f"data.metrics: 'f1' is of the second of two classes; the data has {task.classes}; accepted: f1_macro")
    tells = model.kind in ("causal-lm", "seq2seq")
    head = Classification() if tells else head_of(model.kind)
    plain = model.kind == "classification" and not data.metrics
    specs = data.metrics or tuple(metric.name for metric in quality)
    if tells and any(isinstance(spec, MeanMetric | OwnMetric) for spec in data.metrics):
        accepted = f"{', '.join(metric.name for metric in METRICS[model.kind])}; or a task of your own (model.task: FILE.py:FUNCTION)"
        raise UserError(f"data.metrics: of {model.task}, accepted: {accepted}")
    measures = {} if plain or tells else measures_of(specs, model.kind, folder)
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
    for spec in data.metrics:
        for part in spec.mean if isinstance(spec, MeanMetric) else (spec,):
            if isinstance(part, OwnMetric):
                load_function(part.function, folder, "data.metrics")
    found, wanted = (
        # An experiment has no way to say the loss's unit.
        [f"{m.name} ({m.direction}{f', {m.unit}' if m.unit and m.name != 'loss' else ''})" for m in quality]
        for quality in (task.quality, quality_metrics(model, data))
    )
    if found[: len(wanted)] != wanted and found != wanted[:-1]:
        raise UserError(f"model.task: {model.task} is judged by {', '.join(found)}, data.metrics says {', '.join(wanted)}; accepted: the same")
    return task  # type: ignore[return-value]  # what is used of it is Task's


def _series(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path, source: Source) -> ArrayTask:
    """Numbers as they are: tracks of sensors, or the samples of recordings."""
    pre, key = data.preprocessing, input_names(model, folder)[0]
    names = named(model, source, data, folder)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data).items():
        rows = selected(source, split, indices)
        if model.takes == "audio":
            column = column_of(source, split, data, "audio")
            values = waveforms([row[column] for row in rows], pre.samples, f"data.columns.audio: column {column!r} of {split!r}")
        else:
            values = numbers(source, split, data, "series", rows)
        if pre.shape is not None:
            if values[0].size != np.prod(pre.shape):
                raise UserError(f"data.preprocessing.shape: {list(pre.shape)} for examples of {values[0].size} numbers")
            values = values.reshape(len(values), *pre.shape)
        arrays[name] = {key: values, "labels": targets(model, source, split, data, rows, names)}
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
    if pre.augment and model.kind == "image-to-image":
        raise UserError(f"data.preprocessing.augment: {list(pre.augment)} would change images and not their targets; accepted for image-to-image: none")
    names = named(model, source, data, folder)
    key = input_names(model, folder)[0]
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data).items():
        image = column_of(source, split, data, "image")
        rows = selected(source, split, indices)
        try:
            images = [decode_image(row[image], pre.image_size) for row in rows]
        except (OSError, TypeError, ValueError) as error:
            raise UserError(f"data.columns.image: column {image!r} of {split!r} holds something that is no image: {error}") from error
        if len({i.shape[0] for i in images}) > 1:
            images = [np.broadcast_to(i, (3, *i.shape[1:])) for i in images]
        if len({i.shape for i in images}) > 1:
            raise UserError(f"data.preprocessing.image_size: not given, but the images of {split!r} differ in size; accepted: a number of pixels")
        labels = target_images(source, split, data, rows) if model.kind == "image-to-image" else targets(model, source, split, data, rows, names)
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
    names = named(model, source, data, folder)
    accepted = (*input_names(model, folder), "labels")
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data, in_order=not labelled).items():
        column = column_of(source, split, data, "text")
        rows = selected(source, split, indices)
        texts = [row[column] for row in rows]
        if model.kind == "token-classification":
            words, label = texts, column_of(source, split, data, "label")
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
                "labels": targets(model, source, split, data, rows, names),
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
        trailing_tokens=_trailing(tokenizer),
        added_tokens=tokenizer.num_special_tokens_to_add(),
    )
    if isinstance(task, TextClassification):
        # Labels of tokens have the length of their texts.
        task.trims = model.pretrained is not None and model.kind != "token-classification"
    task = _with_examples(task, workload.batch)  # type: ignore[assignment]
    length = workload.sequence or sequence
    task.example_inputs = {k: _at_length(v, length) for k, v in task.example_inputs.items()}
    return task


def _text_pairs(data: DataSpec, model: ModelSpec, workload: Workload, folder: Path, source: Source) -> ArrayTask:
    if model.pretrained is None:
        raise UserError("model.factory: of seq2seq, accepted: model.pretrained")
    tokenizer, start = tokenizer_of(data, model, folder), start_token(model, folder)
    lengths = (data.preprocessing.sequence, data.generation.new_tokens)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for name, (split, indices) in source.resolve(data).items():
        rows = selected(source, split, indices)
        columns = {role: column_of(source, split, data, role) for role in ("text", "target")}
        texts, wanted = ([row[column] for row in rows] for column in columns.values())
        odd = next((text for text in (*texts, *wanted) if not isinstance(text, str)), None)
        if odd is not None:
            raise UserError(f"data.columns: found {odd!r} in {' or '.join(columns.values())} of {split!r}; accepted: texts")
        arrays[name] = pairs(tokenizer, texts, wanted, lengths, start)
    task: ArrayTask = SequenceToSequence(
        arrays=arrays,
        fingerprint=_fingerprint(arrays, data),
        example_inputs={},
        classes=0,
        description={"sequence": lengths[0], "tokenizer": "tokenizer"},
        special_tokens=tuple(tokenizer.all_special_ids),
        generation=data.generation,
        tokenizer=tokenizer,
        start=start,
    )
    return _with_examples(task, workload.batch)


def _trailing(tokenizer: Any) -> int:
    """How many special tokens a tokenizer puts behind a text."""
    special = tokenizer("a", return_special_tokens_mask=True)["special_tokens_mask"]
    return next((i for i, one in enumerate(reversed(special)) if not one), 0)


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
