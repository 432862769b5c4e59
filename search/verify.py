"""``verify``: reload an artifact in its own runtime, measure again, compare with what was promised."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compressors.errors import DivergedError, TrialError, UnexportableError, UserError
from compressors.targets import target_named
from evaluators.metric import Estimate, Metric
from evaluators.models import load_model
from evaluators.tasks import make_task
from search.artifact import EXAMPLES, Artifact, corrupted
from search.experiment import Experiment
from search.runtime_process import RuntimeProcess

__all__ = ["Check", "Report", "Verdict", "verify"]

Verdict = Literal["kept", "no speed-up", "regressed", "corrupt"]

_ACCURACY = 0.005
_RELATIVE = 0.02
_OUTPUTS = 0.05
_PROCESSES = 5
_THREADS = 2
_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One figure.

    Attributes:
        name: of the metric, or ``outputs``, ``file_bytes``, ``latency_ms (this machine)`` and the like.
        promised: None where nothing was.
        found: None where it could not be measured; ``note`` says why.
        kept: None where it is shown, not judged.
        note: for people.
    """

    name: str
    promised: float | None
    found: float | None
    kept: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What ``verify`` found. ``reasons`` say what is wrong; empty for ``kept``."""

    verdict: Verdict
    checks: tuple[Check, ...]
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the artifact is what it says: ``kept``, or ``no speed-up``, which is only a fact about this machine."""
        return self.verdict in ("kept", "no speed-up")


def verify(folder: Path, *, seconds: float = _SECONDS, processes: int = _PROCESSES, log: Callable[[str], None] = lambda _: None) -> Report:
    """Checksums, expected outputs, quality on ``report``, stored bytes, latency against the uncompressed model in the same runtime.

    The model runs in processes of its own that have no torch. Where the experiment's data or model cannot be reached, what needs them is left out, and said.

    Args:
        folder: an artifact.
        seconds: of timing in each process.
        processes: that time latency, one after the other.
        log: receives progress, a line at a time.

    Raises:
        UserError: no artifact, or one of a newer version.
    """
    problems = corrupted(folder)
    if problems:
        return Report("corrupt", (), tuple(problems))
    artifact = Artifact.load(folder)
    checks: list[Check] = []
    try:
        log("expected outputs")
        checks.append(_outputs(artifact))
        checks += _bytes(artifact)
        log("quality on report")
        checks += _quality(artifact)
        log("latency, taking turns with the uncompressed model")
        latency, slower = _latency(artifact, seconds, processes)
    except UnexportableError as error:
        return Report("regressed", tuple(checks), (f"{artifact.signature['runtime']} cannot run {artifact.model}: {error}",))
    checks += latency
    reasons = [_reason(check) for check in checks if check.kept is False]
    if reasons:
        return Report("regressed", tuple(checks), tuple(reasons))
    return Report("no speed-up", tuple(checks), (slower,)) if slower else Report("kept", tuple(checks), ())


def _reason(check: Check) -> str:
    by = f" ({check.found - check.promised:+.4g})" if check.found is not None and check.promised is not None else ""
    return f"{check.name}: promised {check.promised:.6g}, found {check.found:.6g}{by}" if check.found is not None else f"{check.name}: {check.note}"


def _bench(artifact: Artifact, *options: str, seconds: float = 0.0, threads: int = 1) -> Any:
    """One run of ``search/bench.py``. The installed one: an artifact may come from anywhere, and its own copy is not run."""
    script = Path(__file__).with_name("bench.py")
    command = [sys.executable, "-P", str(script), "--model", str(artifact.folder / artifact.model), "--examples", str(artifact.folder / EXAMPLES)]
    command += ["--batch", str(artifact.signature["workload"].get("batch", 1)), "--threads", str(threads), "--seconds", str(seconds), *options]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script; no shell
    if ended.returncode:
        raise UnexportableError(ended.stderr.strip().splitlines()[-1] if ended.stderr.strip() else f"exit code {ended.returncode}")
    return json.loads(ended.stdout)


def _outputs(artifact: Artifact) -> Check:
    found = _bench(artifact)["outputs"]
    difference = found["relative_difference"]
    if difference is None:
        shapes = f": {found['shape']} instead of {found['expected_shape']}" if "shape" in found else ", or are not finite"
        return Check("outputs", 0.0, None, kept=False, note=f"the outputs of the examples have another shape{shapes}")
    note = f"largest difference to the expected outputs, of their range; {found['examples']} examples, {found['same_best_class']:.0%} with the same best class"
    return Check("outputs", 0.0, difference, kept=difference <= _OUTPUTS, note=note)


def _bytes(artifact: Artifact) -> list[Check]:
    path = artifact.folder / artifact.model
    stored, promised = target_named(artifact.signature["runtime"]).file_bytes(path), artifact.promised["size_bytes"].value
    before = artifact.uncompressed.get("size_bytes")
    note = f"stored weights, scales and biases; {before.value / stored:.1f}x fewer than uncompressed" if before and stored else ""
    return [
        Check("size_bytes", promised, float(stored), kept=stored <= promised * (1 + _RELATIVE), note=note),
        Check("file_bytes", None, float(path.stat().st_size), kept=None, note="the whole file: the same with the graph around it"),
    ]


def _quality(artifact: Artifact) -> list[Check]:
    try:
        experiment = artifact.experiment()
        task = _data(experiment)
    except (UserError, OSError) as error:
        return [
            Check(name, e.value, None, kept=None, note=f"not checked, the experiment's data cannot be reached: {_first(error)}")
            for name, e in _observed(artifact)
        ]
    if task.fingerprint != artifact.lock.data:
        note = f"not checked, the experiment's data has changed: fingerprint {task.fingerprint}, at the export {artifact.lock.data}"
        return [Check(name, e.value, None, kept=None, note=note) for name, e in _observed(artifact)]
    with RuntimeProcess(artifact.folder / artifact.model) as predict:
        try:
            found = task.metrics(predict, "report")
        except DivergedError as error:
            return [Check(task.quality[0].name, artifact.promised[task.quality[0].name].value, None, kept=False, note=str(error))]
    checks = []
    for i, metric in enumerate(task.quality):
        promised = artifact.promised[metric.name].value
        kept = _worse(metric, promised, found[metric.name].value) <= _tolerance(metric, promised) if i == 0 else None
        checks.append(Check(metric.name, promised, found[metric.name].value, kept=kept, note="on report" if kept is not None else "on report; not judged"))
    return checks


def _observed(artifact: Artifact) -> list[tuple[str, Estimate]]:
    exact = ("parameters", "macs", "size_bytes")
    return [(name, e) for name, e in artifact.promised.items() if "@" not in name and name not in exact]


def _worse(metric: Metric, promised: float, found: float) -> float:
    return metric.minimised(found) - metric.minimised(promised)


def _tolerance(metric: Metric, promised: float) -> float:
    return _ACCURACY + 1e-9 if metric.name == "accuracy" else _RELATIVE * abs(promised)


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _data(experiment: Experiment) -> Any:
    missing = experiment.missing_assets()
    if missing:
        raise UserError(f"{missing[0]}: asset not fetched, run make assets")
    # Third parties warn about what they load.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)


def _latency(artifact: Artifact, seconds: float, processes: int) -> tuple[list[Check], str]:
    """The checks, and a reason where the model is not faster than the uncompressed one on this machine."""
    with tempfile.TemporaryDirectory() as temporary:
        options: list[str] = []
        try:
            # Latency does not depend on the values of weights: they need not be fitted for this.
            experiment = artifact.experiment()
            task = _data(experiment)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model = load_model(experiment.model, experiment.folder, task)
                plain = target_named(experiment.target).export(model, task.example_inputs, Path(temporary))
            options = ["--against", str(plain)]
            note = ""
        except (UserError, TrialError, OSError) as error:
            note = f"the uncompressed model cannot be reached: {_first(error)}"
        runs = [_bench(artifact, *options, seconds=seconds, threads=_THREADS) for _ in range(processes)]
    median = float(np.median([run["latency_ms"]["median"] for run in runs]))
    described = f"this machine, {_THREADS} threads, batch {runs[0]['batch']}, median of {processes} processes"
    checks = [Check("latency_ms", None, median, kept=None, note=described)]
    if note:
        return [*checks, Check("latency_ratio", None, None, kept=None, note=f"not checked, {note}")], ""
    before = float(np.median([run["against"]["latency_ms"]["median"] for run in runs]))
    ratios = [float(run["ratio"]) for run in runs]
    ratio = float(np.median(ratios))
    checks.append(Check("latency_ms (uncompressed)", None, before, kept=None, note=described))
    checks.append(
        Check(
            "latency_ratio",
            None,
            ratio,
            kept=None,
            note=f"to the uncompressed model in the same runtime; {min(ratios):.3g} to {max(ratios):.3g} over processes",
        )
    )
    slower = f"latency is {ratio:.2f}x that of the uncompressed model on this machine" if ratio >= 1 else ""
    return checks, slower
