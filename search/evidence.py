"""What an artifact carries so that ``verify`` can look closer: raw inputs behind its examples, and its promised quality example by example."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from evaluators.exit_rates import StageRecorder
from evaluators.images import decode_image
from evaluators.metric import Estimate
from evaluators.tasks.array_task import ArrayTask, module_predict
from evaluators.tasks.several_tasks import interleaved
from evaluators.tasks.source import load_source
from search.checksums import PROMISED, RAW, write_json
from search.experiment import Experiment
from search.raw_files import TEXTS

__all__ = ["read_promised", "write_promised", "write_raw"]


def write_raw(folder: Path, experiment: Experiment, task: ArrayTask, count: int = 8) -> None:
    """The first texts or images of ``report`` as they are before preprocessing, under ``raw/``."""
    images = task.name.startswith("image-")
    if not images and "tokenizer" not in task.description:
        # Numbers are what the model takes already: examples.npz has them.
        return
    (folder / RAW).mkdir()
    role, found = "image" if images else "text", []
    for data in experiment.data.each.values():
        source = load_source(data, experiment.folder)
        split, indices = source.resolve(data, in_order=task.name == "causal-lm")["report"]
        found.append((source.splits[split], indices, data.columns.get(role, role)))  # type: ignore[call-overload]
    order = zip(*interleaved([len(indices) for _, indices, _ in found]), strict=True)
    values = [found[part][0][int(found[part][1][i])][found[part][2]] for part, i in islice(order, count)]
    if not images:
        write_json(folder / RAW / TEXTS, values)
        return
    from PIL import Image

    for i, value in enumerate(values):
        pixels = decode_image(value, None)
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(folder / RAW / f"{i}.png")


def write_promised(folder: Path, task: ArrayTask, model: nn.Module) -> dict[str, Estimate]:
    """The quality of each example of ``report``, in torch, and its summary; ``stage`` says where it leaves a model with early exits."""
    predict = StageRecorder(module_predict(model))
    values = task.per_example(predict, "report")
    np.savez(folder / PROMISED, allow_pickle=False, **_compact(values if predict.stages is None else {**values, "stage": predict.stages}))
    return task.summarise(values)


def read_promised(folder: Path) -> dict[str, NDArray[Any]]:
    """By metric, ``[examples]``; empty where the artifact has none."""
    if not (folder / PROMISED).is_file():
        return {}
    with np.load(folder / PROMISED, allow_pickle=False) as stored:
        return {name: stored[name].astype(np.float64) for name in stored.files}


def _compact(values: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Accuracies, which are 0 or 1, as bytes."""
    return {name: value.astype(np.uint8) if np.isin(value, (0, 1)).all() else value.astype(np.float32) for name, value in values.items()}
