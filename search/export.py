"""``export``: a trial's model as an artifact folder in a runtime's format."""

from __future__ import annotations

from collections.abc import Callable
from math import isclose
from pathlib import Path
from typing import get_args

from compressors.errors import UserError, near_miss
from compressors.graph.exit_heads import exits_in
from compressors.recipe import Recipe
from compressors.targets import target_named
from evaluators.metric import Estimate
from search.artifact import new_folder
from search.artifact_files import ArtifactSource, varied, write_artifact
from search.cache import Cache
from search.evidence import write_promised, write_raw
from search.figures import figure
from search.load_artifact import require_runtime
from search.preparing import prepare
from search.raw_images import Layout
from search.record import TrialRecord
from search.results import Results
from search.stages import StageRunner
from search.transfer import changes, transferred

__all__ = ["FORMATS", "export_trial", "promised_figures"]

FORMATS = {"onnx": "onnxruntime", "litert": "litert", "executorch": "executorch", "torch": "torch"}
"""Artifact formats and the runtime that each is for."""


def export_trial(results: Results, trial: str, out: Path, *, form: str = "onnx", raw_images: Layout | None = None, log: Callable[[str], None] = print) -> Path:
    """Rebuild a trial's model through the stage cache and write its artifact folder.

    Where the format is for another runtime than the study's target, the recipe is quantized, priced and evaluated again for that one, and the artifact
    promises what came out.

    Args:
        results: of the study.
        trial: id of a trial that ended ``ok``, baselines included.
        out: a new or empty folder.
        form: one of ``FORMATS``.
        raw_images: the artifact takes uint8 pixels in this layout: normalisation is part of its graph.
        log: receives progress, a line at a time.

    Raises:
        UserError: no such trial, one that failed, an unknown format, one whose extra is not installed, a folder that cannot be written, data that is not there.
        UnexportableError: the format cannot express the model, or its outputs are not the model's.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format {form!r}; accepted: {', '.join(FORMATS)}{near_miss(form, FORMATS)}")
    if raw_images is not None and raw_images not in get_args(Layout):
        raise UserError(f"--raw-images: unknown layout {raw_images!r}; accepted: {', '.join(get_args(Layout))}{near_miss(raw_images, get_args(Layout))}")
    record = results.record(trial)
    if record.status != "ok":
        raise UserError(
            f"trial {record.id} has no model: it ended as {record.status} ({record.reason.strip().splitlines()[-1] if record.reason else 'no reason'})"
        )
    if raw_images is not None and results.experiment.model.task != "image-classification":
        raise UserError(f"--raw-images: the task is {results.experiment.model.task}; accepted: image-classification")
    if raw_images is not None and form == "torch":
        raise UserError("--raw-images: a checkpoint is the model alone; accepted with --format onnx, litert or executorch")
    target = target_named(FORMATS[form])
    require_runtime(target.name)
    with new_folder(out) as partial:
        cache = Cache()
        prepared = prepare(results.experiment, cache, log)
        recipe = Recipe.from_plain(record.recipe)
        foreign = target.name != prepared.target.name
        if foreign:
            log(f"{target.name} is not the study's target, {prepared.target.name}: the trial is quantized, priced and evaluated again for {target.name}")
            prepared = transferred(prepared, target)
        runner = StageRunner(prepared, cache, log)
        promised, uncompressed = (promised_figures(results, found, runner, again=foreign) for found in (record, results.uncompressed))
        if foreign:
            for line in changes(results, record, promised, prepared.experiment):
                log(line)
        log(f"rebuilding {record.id}")
        model, prepared = runner.model(recipe, replicate=record.replicate), runner.at(recipe)
        count = {} if exits_in(model) is None else {"count": varied(prepared.task)}
        write_raw(partial, prepared.experiment, prepared.task, **count)
        made = write_promised(partial, prepared.task, model)
        metric = prepared.task.quality[0]
        if not isclose(made[metric.name].value, promised[metric.name].value, rel_tol=1e-4):
            here, there = (figure(metric, values[metric.name].value) for values in (made, promised))
            why = "it was trained again, on another machine or by other versions"
            log(f"{metric.name} on report is {here} in the rebuilt model, {there} in the study, which is what the artifact promises: {why}")
        study = (results.name, str(results.folder.resolve()) if results.folder else "")
        write_artifact(ArtifactSource(prepared, model, recipe, record, promised, uncompressed, study, runner.shapes(recipe, model), raw_images), partial)
    return out


def promised_figures(results: Results, record: TrialRecord | None, runner: StageRunner, *, again: bool = False) -> dict[str, Estimate]:
    """Quality on ``report`` and costs: those of the study where it has them, else, or ``again``, measured now. No record is the uncompressed model."""
    quality = [m.name for m in results.experiment.names.quality]
    if again or record is None or not record.report:
        recipe = Recipe.from_plain(record.recipe) if record else Recipe()
        measured = runner.run(recipe, replicate=record.replicate if record else 0, split="report").metrics
        report = {name: measured[name] for name in quality}
    else:
        measured, report = record.metrics, record.report
    return {**report, **{name: value for name, value in measured.items() if name not in quality}}
