"""Latency, load time and memory of an artifact beside the uncompressed model in the same runtime, in processes of their own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compressors.targets import target_named
from evaluators.models import load_model
from evaluators.tasks.array_task import ArrayTask
from search.artifact import Artifact
from search.bench import read_examples, typical
from search.checksums import EXAMPLES
from search.experiment import Experiment
from search.raw_files import read_raw
from search.runtime_process import bench, run_json
from search.verifying.exits import latency_check
from search.verifying.quality import OUTPUTS_TOLERANCE
from search.verifying.report import Check

__all__ = ["Timing", "native_examples", "speed_checks", "uncompressed_file"]


@dataclass(frozen=True, slots=True)
class Timing:
    """How to time.

    Attributes:
        processes: one after the other; each loads both models anew.
        seconds: of timing in each.
        threads: within an operator.
        provider: of ONNX Runtime.
        batch: examples at a time.
    """

    processes: int
    seconds: float
    threads: int
    provider: str
    batch: int

    @property
    def options(self) -> list[str]:
        """Of the programs that time."""
        return ["--threads", str(self.threads), "--seconds", str(self.seconds), "--provider", self.provider, "--batch", str(self.batch)]


def uncompressed_file(artifact: Artifact, experiment: Experiment, task: ArrayTask, folder: Path) -> Path:
    """The uncompressed model in the artifact's runtime. Latency does not depend on the values of weights: they are not fitted.

    Raises:
        UserError: the model cannot be loaded.
        UnexportableError: the runtime has no form of it.
    """
    # Third parties warn about what they load.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = load_model(experiment.model, experiment.folder, task), task.example_inputs
        layout = artifact.signature["preprocessing"].get("layout")
        if layout is not None:
            from search.raw_images import taking_pixels

            model, inputs = taking_pixels(model, task, layout)
        return target_named(artifact.signature["runtime"]).export(model, inputs, folder)


def native_examples(artifact: Artifact, task: ArrayTask, folder: Path) -> Path | None:
    """The artifact's examples as the uncompressed model takes them, where that takes larger inputs; else None."""
    if artifact.sizing is None:
        return None
    _, expected = read_examples(artifact.folder / EXAMPLES)
    inputs = task.prepare(task.raw("report", 0, len(expected))[0])
    described = artifact.signature["preprocessing"]
    if "in_graph" in described:
        from search.raw_images import as_pixels

        inputs = dict(as_pixels(inputs, described["in_graph"], described["layout"]))
    path = folder / "native.npz"
    arrays: dict[str, Any] = {"logits": expected, **{f"input.{name}": value for name, value in inputs.items()}}
    np.savez(path, **arrays)
    return path


def speed_checks(
    artifact: Artifact, timing: Timing, plain: Path | None, why: str, log: Callable[[str], None], native: Path | None = None
) -> tuple[list[Check], list[Check], float | None]:
    """Times of the model alone; from raw inputs; and the median ratio of latencies.

    Args:
        artifact: to be timed.
        timing: how.
        plain: the uncompressed model; None where there is none, and ``why``.
        why: see ``plain``.
        log: receives progress.
        native: inputs of the uncompressed model, where it takes larger ones.

    Raises:
        UnexportableError: the runtime cannot run the model.
    """
    model = artifact.folder / artifact.model
    against = ["--against", str(plain)] if plain else []
    others = ["--against-examples", str(native)] if native else []
    log("latency, load time and memory" + (", taking turns with the uncompressed model" if plain else ""))
    runs = [bench(model, *timing.options, *against, *others, examples=artifact.folder / EXAMPLES) for _ in range(timing.processes)]
    of = f"{timing.processes} processes" if timing.processes > 1 else "1 process"
    where = f"this machine, {runs[0]['provider']}, {timing.threads} threads, batch {timing.batch}, median of {of}"
    if "mean" in runs[0]["latency_ms"]:
        where += ", each the mean over the artifact's examples"
    checks = _both("latency_ms", runs, lambda run: typical(run["latency_ms"]), where)
    checks += _both("latency_p90_ms", runs, lambda run: run["latency_ms"]["p90"], "nine of ten runs are at most as long")
    if "exits" in artifact.signature:
        pairs = [{"own": typical(run["latency_ms"]), **({"plain": typical(run["against"]["latency_ms"])} if "against" in run else {})} for run in runs]
        checks += latency_check(artifact, pairs, timing.threads)
    ratio = None
    if plain:
        ratios = [float(run["ratio"]) for run in runs]
        ratio = float(np.median(ratios))
        note = f"to the uncompressed model in the same runtime; {min(ratios):.3g} to {max(ratios):.3g} over processes"
        checks.append(Check("latency_ratio", None, ratio, None, note, min(ratios), max(ratios)))
    else:
        checks.append(Check("latency_ratio", None, None, kept=None, note=f"not checked, {why}"))
    session = float(np.median([run["session_ms"] for run in runs]))
    checks += _both("load_ms", runs, lambda run: run["load_ms"], f"a new process until its first result, {session:.3g} ms of it to open the model")
    if runs[0]["peak_memory_bytes"] is not None:
        checks += _both("peak_memory_bytes", runs, lambda run: run["peak_memory_bytes"], "resident, of a process that runs the model")
    return checks, _raw_checks(artifact, timing, against, log), ratio


def _both(name: str, runs: Sequence[Mapping[str, Any]], figure: Callable[[Mapping[str, Any]], float], note: str) -> list[Check]:
    """Medians over processes, with their range, of the model and of the uncompressed one."""
    checks = []
    for title, documents in ((name, runs), (f"{name} (uncompressed)", [run["against"] for run in runs if "against" in run])):
        values = [float(figure(document)) for document in documents]
        if values:
            spread = f"; {min(values):.3g} to {max(values):.3g}" if len(values) > 1 and not name.endswith("_bytes") else ""
            checks.append(Check(title, None, float(np.median(values)), None, f"{note if title == name else 'the same'}{spread}", min(values), max(values)))
    return checks


def _raw_checks(artifact: Artifact, timing: Timing, against: list[str], log: Callable[[str], None]) -> list[Check]:
    if not read_raw(artifact.folder):
        return [Check("end_to_end_ms", None, None, kept=None, note="not checked, the artifact has no raw inputs")]
    if artifact.signature["runtime"] == "torch":
        return [Check("end_to_end_ms", None, None, kept=None, note="not checked, load_artifact opens no checkpoint whose architecture is the experiment's")]
    log("from raw inputs")
    command = [sys.executable, "-P", "-m", "search.verifying.end_to_end", str(artifact.folder), *against, *timing.options]
    runs = [run_json(command) for _ in range(timing.processes)]
    kind = "encoded images" if artifact.signature["task"] == "image-classification" else "texts"
    without = "" if runs[0]["torch"] else ", without torch"
    checks = _both("end_to_end_ms", runs, lambda run: typical(run["end_to_end_ms"]), f"from {kind} to outputs, through load_artifact{without}")
    difference = runs[0]["relative_difference"]
    if difference is not None:
        note = "the same from the raw inputs that the examples were made of"
        checks.append(Check("outputs (raw)", 0.0, difference, kept=difference <= OUTPUTS_TOLERANCE, note=note))
    return checks
