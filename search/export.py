"""``export``: a trial's model as an artifact folder in its runtime's format."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compressors.errors import UnexportableError, UserError
from compressors.recipe import Recipe
from evaluators.metric import Estimate
from evaluators.tasks.array_task import ArrayTask, module_predict
from evaluators.tasks.making import tokenizer_of
from search.applying import lock_of
from search.artifact import ARTIFACT_VERSION, EXAMPLES, METRICS, PROVENANCE, SIGNATURE, new_folder, write_checksums, write_json
from search.cache import Cache
from search.experiment import Experiment
from search.lock import LOCK_NAME
from search.model_card import model_card
from search.preparing import Prepared, prepare
from search.record import TrialRecord
from search.results import Results
from search.stages import StageRunner

__all__ = ["FORMATS", "export_trial"]

FORMATS = {"onnx": "onnxruntime"}
"""Artifact formats and the runtime that each is for."""

_EXAMPLES = 8
_AGREEMENT = 0.05


def export_trial(results: Results, trial: str, out: Path, *, form: str = "onnx", log: Callable[[str], None] = print) -> Path:
    """Rebuild a trial's model through the stage cache and write its artifact folder.

    Args:
        results: of the study.
        trial: id of a trial that ended ``ok``, baselines included.
        out: a new or empty folder.
        form: one of ``FORMATS``.
        log: receives progress, a line at a time.

    Raises:
        UserError: no such trial, one that failed, an unknown format, a folder that cannot be written, data that is not there.
        UnexportableError: the format cannot express the model, or its outputs are not the model's.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}; accepted: {', '.join(FORMATS)}")
    record = results.record(trial)
    if record.status != "ok":
        raise UserError(
            f"trial {record.id} has no model: it ended as {record.status} ({record.reason.strip().splitlines()[-1] if record.reason else 'no reason'})"
        )
    experiment = results.experiment
    if FORMATS[form] != experiment.target:
        raise UserError(f"--format {form} is for {FORMATS[form]}; the study's target is {experiment.target}")
    partial = new_folder(out)
    try:
        cache = Cache()
        prepared = prepare(experiment, cache, log)
        runner = StageRunner(prepared, cache, log)
        recipe = Recipe.from_plain(record.recipe)
        log(f"rebuilding {record.id}")
        model = runner.model(recipe, replicate=record.replicate)
        promised, uncompressed = _promised(results, record, runner, recipe)
        _write(partial, prepared, recipe, record, results, model, promised, uncompressed)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise UserError(f"--out: cannot write {out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _promised(results: Results, record: TrialRecord, runner: StageRunner, recipe: Recipe) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    """Quality on ``report`` and costs, of the trial and of the uncompressed model."""
    quality = [m.name for m in results.experiment.names.quality]
    both = []
    for found, steps in ((record, recipe), (results.uncompressed, Recipe())):
        if found is None or not found.report:
            measured = runner.run(steps, replicate=found.replicate if found else 0, split="report").metrics
            report = {name: measured[name] for name in quality}
        else:
            measured, report = found.metrics, found.report
        both.append({**report, **{name: value for name, value in measured.items() if name not in quality}})
    return both[0], both[1]


def _write(
    folder: Path,
    prepared: Prepared,
    recipe: Recipe,
    record: TrialRecord,
    results: Results,
    model: nn.Module,
    promised: dict[str, Estimate],
    uncompressed: dict[str, Estimate],
) -> None:
    experiment, task = prepared.experiment, prepared.task
    path = prepared.target.export(model, task.example_inputs, folder)
    inputs, logits = _examples(task, model, prepared, path)
    arrays: dict[str, Any] = {"logits": logits, **{f"input.{name}": value for name, value in inputs.items()}}
    np.savez(folder / EXAMPLES, **arrays)
    signature = _signature(experiment, task, path.name, inputs, logits)
    write_json(folder / SIGNATURE, signature)
    if task.name != "image-classification":
        tokenizer_of(experiment.data, experiment.model, experiment.folder).save_pretrained(folder / "tokenizer")
    recipe.save(folder / "recipe.yaml")
    lock_of(prepared, recipe, record.replicate).save(folder / LOCK_NAME)
    described = {name: _described(experiment, values) for name, values in (("metrics", promised), ("uncompressed", uncompressed))}
    write_json(folder / METRICS, {"artifact_version": ARTIFACT_VERSION, "split": "report", "main": task.quality[0].name, **described})
    study = str(results.folder.resolve()) if results.folder else ""
    provenance = {"study": results.name, "study_folder": study, "trial": record.id, "machine": f"{platform.machine()} {platform.system()} {platform.node()}"}
    write_json(folder / PROVENANCE, {**provenance, "versions": dict(prepared.versions), "experiment": experiment.to_plain()})
    card = model_card(f"{results.name} {record.id}", experiment, signature, promised, uncompressed, record.recipe, record.widths)
    (folder / "README.md").write_text(card, encoding="utf-8")
    shutil.copyfile(Path(__file__).with_name("bench.py"), folder / "bench.py")
    write_checksums(folder)


def _examples(task: ArrayTask, model: nn.Module, prepared: Prepared, path: Path) -> tuple[dict[str, NDArray[Any]], NDArray[Any]]:
    """A few inputs of ``report`` with the runtime's outputs, which must be the model's.

    Raises:
        UnexportableError: they are not.
    """
    batch = next(iter(task.batches("report", batch_size=_EXAMPLES)))
    inputs = {name: np.asarray(value.numpy()) for name, value in batch.inputs.items()}
    for name, traced in task.example_inputs.items():
        if traced.shape[1:] != inputs[name].shape[1:]:
            shapes = f"{list(traced.shape[1:])} in the workload, {list(inputs[name].shape[1:])} in the data"
            raise UserError(f"workload: {name} is {shapes}; an exported model has one size, so let workload.sequence be data.preprocessing.sequence")
    found = np.asarray(prepared.target.load(path, 1)(inputs)["logits"])
    expected = np.asarray(module_predict(model)(inputs)["logits"])
    spread = float(np.ptp(expected)) or 1.0
    if found.shape != expected.shape or not np.abs(found - expected).mean() <= _AGREEMENT * spread:
        raise UnexportableError(
            f"the exported model does not compute what the model does: mean difference {np.abs(found - expected).mean() / spread:.1%} of the range"
        )
    return inputs, found


def _signature(experiment: Experiment, task: ArrayTask, file: str, inputs: dict[str, NDArray[Any]], logits: NDArray[Any]) -> dict[str, Any]:
    return {
        "artifact_version": ARTIFACT_VERSION,
        "model": file,
        "runtime": experiment.target,
        "task": task.name,
        "inputs": {name: {"dtype": str(value.dtype), "shape": ["batch", *value.shape[1:]]} for name, value in inputs.items()},
        "outputs": {"logits": {"dtype": str(logits.dtype), "shape": ["batch", *logits.shape[1:]]}},
        "preprocessing": task.description,
        "labels": list(task.label_names),
        "workload": experiment.workload.model_dump(exclude_none=True),
    }


def _described(experiment: Experiment, values: dict[str, Estimate]) -> dict[str, dict[str, Any]]:
    metrics = {name: experiment.names.resolve(name)[1] for name in values}
    return {name: {**e.to_plain(), "unit": metrics[name].unit, "direction": metrics[name].direction} for name, e in values.items()}
