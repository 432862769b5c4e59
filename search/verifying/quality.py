"""Outputs, quality on ``report`` and stored bytes of an artifact, against what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import DivergedError
from compressors.targets import target_named
from evaluators.exit_rates import StageRecorder
from evaluators.metric import EXACT, Estimate, Metric
from evaluators.tasks.array_task import ArrayTask
from evaluators.tasks.intervals import paired_difference
from search.artifact import Artifact, file_bytes
from search.evidence import read_promised
from search.runtime_process import RuntimeProcess
from search.verification import keeps
from search.verifying.exits import rate_checks
from search.verifying.report import Check

__all__ = ["OUTPUTS_TOLERANCE", "byte_checks", "output_check", "quality_checks", "sized", "unchecked_quality"]

OUTPUTS_TOLERANCE = 0.05


def output_check(found: Mapping[str, Any]) -> Check:
    """From what ``bench.py`` says of the examples."""
    difference = found["relative_difference"]
    if difference is None:
        shapes = f"have the shape {found['shape']} instead of {found['expected_shape']}" if "shape" in found else "are not finite"
        return Check("outputs", 0.0, None, kept=False, note=f"the outputs of the examples {shapes}")
    note = f"largest difference to the expected outputs, of their range; {found['examples']} examples, {found['same_best_class']:.0%} with the same best class"
    return Check("outputs", 0.0, difference, kept=difference <= OUTPUTS_TOLERANCE, note=note)


def byte_checks(artifact: Artifact) -> list[Check]:
    """Stored bytes, those of the file, and the overhead of the graph around the weights."""
    path = artifact.folder / artifact.model
    stored, promised = target_named(artifact.signature["runtime"]).file_bytes(path), artifact.promised["size_bytes"].value
    before = artifact.uncompressed.get("size_bytes")
    note = f"weights, scales, zero points and biases; {before.value / stored:.1f}x fewer than uncompressed" if before and stored else ""
    whole = file_bytes(path)
    return [
        Check("size_bytes", promised, float(stored), kept=keeps(EXACT["size_bytes"], promised, stored), note=note),
        Check("file_bytes", None, float(whole), kept=None, note="the whole file"),
        Check("overhead_bytes", None, float(whole - stored), kept=None, note=f"the graph around the weights, {(whole - stored) / max(stored, 1):.0%} of them"),
    ]


def sized(artifact: Artifact, task: ArrayTask) -> ArrayTask:
    """The experiment's task with inputs of the size that the artifact takes."""
    return task if artifact.sizing is None else task.at(artifact.sizing)


def quality_checks(artifact: Artifact, task: ArrayTask, threads: int, provider: str) -> list[Check]:
    """The metrics of the task on ``report``, in the artifact's runtime; the first one is judged."""
    promised_values = read_promised(artifact.folder)
    with RuntimeProcess(artifact.folder / artifact.model, threads, provider) as process:
        try:
            predict = StageRecorder(_predict(process, artifact.signature))
            values = task.per_example(predict, "report")
            found = task.summarise(values)
        except DivergedError as error:
            name = task.quality[0].name
            return [Check(name, artifact.promised[name].value, None, kept=False, note=str(error))]
    checks = []
    for i, metric in enumerate(task.quality):
        promised, e = artifact.promised[metric.name].value, found[metric.name]
        kept = keeps(metric, promised, e.value) if i == 0 else None
        before = promised_values.get(metric.name)
        # Values of the same examples, or there is nothing to pair.
        difference = paired_difference(values[metric.name], before) if before is not None and before.shape == values[metric.name].shape else None
        note = f"on report{'' if kept is not None else '; not judged'}{_paired(metric, difference, values[metric.name])}"
        checks.append(Check(metric.name, promised, e.value, kept, note, e.low, e.high, difference))
    if predict.stages is not None:
        before = promised_values.get("stage")
        checks += rate_checks(predict.stages, None if before is None else before.astype(np.int64), list(artifact.signature["exits"]["after"]))
    return checks


def unchecked_quality(artifact: Artifact, why: str) -> list[Check]:
    """Promises that could not be looked at."""
    exact = ("parameters", "macs", "size_bytes")
    return [Check(name, e.value, None, kept=None, note=why) for name, e in artifact.promised.items() if "@" not in name and name not in exact]


def _predict(process: RuntimeProcess, signature: Mapping[str, Any]) -> Any:
    """Prepared inputs to outputs, also where the artifact takes pixels."""
    described = signature["preprocessing"]
    if "in_graph" not in described:
        return process
    from search.raw_images import as_pixels

    return lambda inputs: process(as_pixels(inputs, described["in_graph"], described["layout"]))


def _paired(metric: Metric, difference: Estimate | None, values: NDArray[Any]) -> str:
    if difference is None:
        return ""
    if metric.is_accuracy:
        parts = [f"{100 * v:+.2f}" for v in (difference.value, difference.low, difference.high)]
        return f"; to this model in torch, on the same {len(values)} examples: {parts[0]} points ({parts[1]} to {parts[2]})"
    unit = "nats" if metric.name.rpartition(".")[2] == "perplexity" else metric.unit
    return f"; to this model in torch, paired: {difference.value:+.3g} {unit} ({difference.low:+.3g} to {difference.high:+.3g})"
