"""What ``export`` writes: the files of an artifact folder (see ``search.artifact``)."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compressors.checkpoint import load
from compressors.errors import UnexportableError, UserError
from compressors.graph import Shapes
from compressors.graph.exit_heads import exits_in
from compressors.recipe import Recipe
from compressors.targets.onnx_stages import STAGES, split_stages
from evaluators.devices.calibration.anchors import Candidate
from evaluators.metric import Estimate
from evaluators.tasks.array_task import ArrayTask, module_predict
from evaluators.tasks.making import tokenizer_of
from evaluators.tasks.task import Predict
from search.applying import lock_of
from search.artifact import ARTIFACT_VERSION, BENCH, EXAMPLES, METRICS, PROVENANCE, SIGNATURE, file_bytes, write_checksums, write_json
from search.bench import open_model
from search.experiment import Experiment
from search.lock import LOCK_NAME
from search.model_card import model_card
from search.preparing import Prepared
from search.raw_images import Layout, taking_pixels
from search.raw_inputs import smaller_pixels
from search.record import TrialRecord

__all__ = ["ArtifactSource", "session_of", "varied", "write_artifact"]

_EXAMPLES = 8
_AGREEMENT = 0.05
_AXES = ("batch", "sequence")
_VARIED, _VARIED_BYTES = 256, 2**23
"""Examples of a model with early exits, whose time depends on them."""


@dataclass(frozen=True)
class ArtifactSource:
    """What an artifact is made of.

    Attributes:
        prepared: with the artifact's runtime as ``target``, and an experiment that names it.
        model: of ``recipe``, live or quantized.
        record: of the trial.
        promised, uncompressed: figures by metric; quality on ``report``.
        study: the study's name and folder.
        shapes: of the model, one row.
        raw_images: the layout of the pixels that the artifact takes; None where it takes prepared inputs.
    """

    prepared: Prepared
    model: nn.Module
    recipe: Recipe
    record: TrialRecord
    promised: Mapping[str, Estimate]
    uncompressed: Mapping[str, Estimate]
    study: tuple[str, str]
    shapes: Shapes
    raw_images: Layout | None = None


def write_artifact(source: ArtifactSource, folder: Path) -> Path:
    """Export, compare the runtime's outputs with the model's on a few inputs, and write everything into ``folder``; returns the model file.

    Raises:
        UserError: the sizes of the workload are not those of the data.
        UnexportableError: the format cannot express the model, or its outputs are not the model's.
    """
    prepared, experiment, task, name = source.prepared, source.prepared.experiment, source.prepared.task, source.study[0]
    model, traced = (source.model, task.example_inputs) if source.raw_images is None else taking_pixels(source.model, task, source.raw_images)
    path = _staged(source, prepared.target.export(model, traced, folder))
    session = session_of(prepared, path)
    inputs, logits = _examples(source, session)
    arrays: dict[str, Any] = {"logits": logits, **{f"input.{name}": value for name, value in inputs.items()}}
    np.savez(folder / EXAMPLES, **arrays)
    signature = _signature(source, path.name, inputs, logits, any_length="tokenizer" in task.description and _any_length(session, inputs))
    write_json(folder / SIGNATURE, signature)
    if "tokenizer" in task.description:
        tokenizer_of(experiment.data, experiment.model, experiment.folder).save_pretrained(folder / "tokenizer")
    source.recipe.save(folder / "recipe.yaml")
    lock_of(prepared.whole, source.recipe, source.record.replicate).save(folder / LOCK_NAME)
    described = {key: _described(experiment, values) for key, values in (("metrics", source.promised), ("uncompressed", source.uncompressed))}
    write_json(folder / METRICS, {"artifact_version": ARTIFACT_VERSION, "split": "report", "main": task.quality[0].name, **described})
    machine = f"{platform.machine()} {platform.system()} {platform.node()}"
    provenance = {"study": name, "study_folder": source.study[1], "trial": source.record.id, "machine": machine}
    # What a measurement of this file says about others: see evaluators.devices.calibration.anchors.
    identity: dict[str, Any] = {"graph": prepared.graph.fingerprint, "candidate": Candidate.of(source.shapes).model_dump(mode="json")}
    write_json(folder / PROVENANCE, {**provenance, "versions": dict(prepared.versions), **identity, "experiment": experiment.to_plain()})
    card = model_card(
        f"{name} {source.record.id}",
        experiment,
        signature,
        dict(source.promised),
        dict(source.uncompressed),
        source.record.recipe,
        source.record.widths,
        file_bytes(path),
    )
    (folder / "README.md").write_text(card, encoding="utf-8")
    for name in BENCH:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)
    write_checksums(folder)
    return path


def _staged(source: ArtifactSource, path: Path) -> Path:
    """The file of a model without early exits; else a plan of stages in its place.

    Raises:
        UnexportableError: the runtime has no stages.
    """
    exits = exits_in(source.model)
    if exits is None:
        return path
    if source.prepared.target.name != "onnxruntime":
        raise UnexportableError(f"{source.prepared.target.name} has no early exits: its file would run the whole model; accepted: --format onnx")
    return split_stages(path, exits["threshold"], _inputs(source, 1)[1])


def session_of(prepared: Prepared, path: Path) -> Predict:
    """What an exported file computes, in this process."""
    if path.name == STAGES:
        staged = open_model(path)
        return lambda inputs: {"logits": staged.run(dict(inputs)), "stage": staged.stage}
    if prepared.target.name == "torch":
        # A checkpoint need not name its architecture; the experiment does.
        return module_predict(load(path.parent, prepared.model))
    return prepared.target.load(path, 1)


def _examples(source: ArtifactSource, session: Predict) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """A few inputs of ``report`` with the runtime's outputs, which must be the model's.

    Raises:
        UserError: the model was traced with other sizes, and takes no others.
        UnexportableError: the outputs are not the model's.
    """
    task = source.prepared.task
    prepared, inputs = _inputs(source, _EXAMPLES if exits_in(source.model) is None else varied(task))
    try:
        found = np.asarray(session(inputs)["logits"])
    except Exception as error:
        # Each runtime has errors of its own for sizes that it does not take.
        for name, traced in task.example_inputs.items():
            if traced.shape[1:] != prepared[name].shape[1:]:
                shapes = f"{list(traced.shape[1:])} in the workload, {list(prepared[name].shape[1:])} in the data"
                raise UserError(f"workload: {name} is {shapes}, and the exported model has one size; let these be the same") from error
        raise
    expected = np.asarray(module_predict(source.model)(prepared)["logits"])
    spread = float(np.ptp(expected)) or 1.0
    if found.shape != expected.shape:
        raise UnexportableError(f"the exported model gives outputs of shape {list(found.shape)}, the model {list(expected.shape)}")
    difference = float(np.abs(found - expected).mean())
    if not difference <= _AGREEMENT * spread:
        raise UnexportableError(f"the exported model does not compute what the model does: mean difference {difference / spread:.1%} of the range")
    return inputs, found


def varied(task: ArrayTask) -> int:
    """How many examples tell what a model with early exits takes on average: as many as fit into some megabytes."""
    each = sum(value.nbytes for value in task.model_inputs(task.raw("report", 0, 1)[0]).values())
    return int(np.clip(_VARIED_BYTES // max(each, 1), _EXAMPLES, _VARIED))


def _inputs(source: ArtifactSource, count: int) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Inputs of ``report``: as the model takes them, and as its artifact does."""
    task = source.prepared.task
    raw, _ = task.raw("report", 0, count)
    prepared = task.model_inputs(raw)
    if source.raw_images is None:
        return prepared, prepared
    pixels = {name: np.ascontiguousarray(value.transpose(0, 2, 3, 1) if source.raw_images == "nhwc" else value) for name, value in raw.items()}
    return prepared, pixels if task.sizing is None else smaller_pixels(task.sizing, source.raw_images, pixels)


def _any_length(session: Predict, inputs: Mapping[str, NDArray[Any]]) -> bool:
    """Whether texts may be shorter than those of the data: found by running one."""
    if any(value.ndim != 2 or value.shape[1] < 2 for value in inputs.values()):
        return False
    try:
        session({name: value[:, : value.shape[1] // 2] for name, value in inputs.items()})
    except Exception:  # noqa: BLE001 - see _examples
        return False
    return True


def _signature(source: ArtifactSource, file: str, inputs: dict[str, NDArray[Any]], logits: NDArray[Any], *, any_length: bool) -> dict[str, Any]:
    prepared, task = source.prepared, source.prepared.task
    own = 2 if any_length else 1
    exits = exits_in(source.model)
    # Of language models each token has outputs.
    varying = own if logits.ndim == 3 else 1
    return {
        "artifact_version": ARTIFACT_VERSION,
        "model": file,
        "runtime": prepared.target.name,
        "task": task.name,
        "inputs": {name: {"dtype": str(value.dtype), "shape": [*_AXES[:own], *value.shape[own:]]} for name, value in inputs.items()},
        "outputs": {"logits": {"dtype": str(logits.dtype), "shape": [*_AXES[:varying], *logits.shape[varying:]]}},
        "preprocessing": _preprocessing(task, source.raw_images),
        "labels": list(task.label_names),
        "workload": prepared.experiment.workload.model_dump(exclude_none=True),
        **({} if exits is None else {"exits": {"after": list(exits["after"]), "threshold": exits["threshold"]}}),
    }


def _preprocessing(task: ArrayTask, raw_images: Layout | None) -> dict[str, Any]:
    """What is left to do before the model; what the graph does itself is under ``in_graph``.

    ``shape`` is that of the data; ``input_size`` says how inputs are then made smaller. Texts are cut at once: ``sequence``.
    """
    sizing = task.sizing
    smaller = {} if sizing is None else {"input_size": sizing.to_plain()}
    if sizing is not None and sizing.kind == "tokens":
        smaller["sequence"] = min(sizing.size[0], task.description["sequence"])
    if raw_images is None:
        return {**task.description, **smaller}
    shape = task.description["shape"]
    normalisation = {key: task.description[key] for key in ("scale", "mean", "std")}
    left = {"input": task.description["input"], "layout": raw_images, "scale": 1, "mean": [0.0], "std": [1.0]}
    return {**left, "shape": [*shape[1:], shape[0]] if raw_images == "nhwc" else shape, "in_graph": normalisation, **smaller}


def _described(experiment: Experiment, values: Mapping[str, Estimate]) -> dict[str, dict[str, Any]]:
    metrics = {name: experiment.names.resolve(name)[1] for name in values}
    return {name: {**e.to_plain(), "unit": metrics[name].unit, "direction": metrics[name].direction} for name, e in values.items()}
