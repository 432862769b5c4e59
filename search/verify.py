"""``verify``: reload an artifact in its own runtime, measure again, compare with what was promised."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from compressors.errors import TrialError, UnexportableError, UserError
from evaluators.tasks import make_task
from evaluators.tasks.array_task import ArrayTask
from search.artifact import Artifact
from search.bench import read_examples
from search.checksums import EXAMPLES, LADDER, corrupted
from search.experiment import Experiment
from search.load_artifact import require_runtime
from search.runtime_process import bench
from search.verifying.no_speed_up import reasons
from search.verifying.quality import byte_checks, output_check, quality_checks, sized, unchecked_quality
from search.verifying.report import Check, Report, Verdict
from search.verifying.speed import Timing, native_examples, speed_checks, uncompressed_file

__all__ = ["Check", "Report", "Verdict", "verify"]

_SPEED_UP = 0.95
"""A model whose latency is a larger share of the uncompressed one's is not called faster: less than that is noise on most machines."""


def verify(
    folder: Path,
    *,
    seconds: float = 1.0,
    processes: int = 5,
    threads: int = 2,
    provider: str = "cpu",
    log: Callable[[str], None] = lambda _: None,
) -> Report:
    """Checksums, expected outputs, quality on ``report``, bytes, latency, load time and memory against the uncompressed model in the same runtime.

    The model runs in processes of its own, without torch where its runtime allows. Where the experiment's data or model cannot be reached, what needs them
    is left out, and said.

    Args:
        folder: an artifact.
        seconds: of timing in each process.
        processes: that time latency, one after the other.
        threads: within an operator.
        provider: of ONNX Runtime, such as ``cuda``.
        log: receives progress, a line at a time.

    Raises:
        UserError: no artifact; a runtime or provider that is not installed.
    """
    problems = corrupted(folder)
    if problems:
        return Report("corrupt", (), tuple(problems))
    if (folder / LADDER).is_file():
        from search.verifying.ladder import verify_ladder

        again = partial(verify, seconds=seconds, processes=processes, threads=threads, provider=provider, log=log)
        return verify_ladder(folder, again, _reached, threads, provider, log)
    try:
        artifact = Artifact.load(folder)
        read_examples(folder / EXAMPLES)
    except (UserError, ValueError, OSError, KeyError) as error:
        return Report("corrupt", (), (f"cannot be read: {_first(error)}",))
    runtime = artifact.signature["runtime"]
    require_runtime(runtime)
    timing = Timing(processes, seconds, threads, provider, int(artifact.signature["workload"].get("batch", 1)))
    checks: list[Check] = []
    slow: list[str] = []
    try:
        log("expected outputs")
        checks.append(output_check(bench(folder / artifact.model, "--brief", "--seconds", "0", "--provider", provider)["outputs"]))
        checks += byte_checks(artifact)
        with tempfile.TemporaryDirectory() as temporary:
            experiment, task, why = _reached(artifact)
            log("quality on report")
            checks += (
                unchecked_quality(artifact, f"not checked, {why}")
                if task is None or why
                else quality_checks(artifact, sized(artifact, task), threads, provider)
            )
            plain, why = _uncompressed(artifact, experiment, task, Path(temporary), why)
            native = native_examples(artifact, task, Path(temporary)) if plain is not None and task is not None else None
            alone, from_raw, ratio = speed_checks(artifact, timing, plain, why, log, native)
            checks += [*alone, *from_raw]
            if plain is not None and ratio is not None and ratio > _SPEED_UP:
                slow = [f"latency is {ratio:.2f}x that of the uncompressed model on this machine", *_why(artifact, plain, runtime)]
    except UnexportableError as error:
        if "--provider" in str(error):
            raise UserError(_first(error)) from error
        return Report("regressed", tuple(checks), (f"{runtime} cannot run {artifact.model}: {error}",))
    broken = [check.reason for check in checks if check.kept is False]
    verdict: Verdict = "regressed" if broken else "no speed-up" if slow else "kept"
    return Report(verdict, tuple(checks), tuple(broken or slow), tuple(_notes(folder / artifact.model)))


def _why(artifact: Artifact, plain: Path, runtime: str) -> list[str]:
    if "exits" in artifact.signature:
        return ["few inputs leave early; a lower threshold lets more of them"]
    return reasons(artifact.folder / artifact.model, plain, runtime)


def _reached(artifact: Artifact) -> tuple[Experiment | None, ArrayTask | None, str]:
    """The experiment and its data, as far as they can be reached; and why quality cannot be looked at, where it cannot."""
    experiment = None
    try:
        experiment = artifact.experiment()
        task = _data(experiment)
    except (UserError, OSError) as error:
        return experiment, None, f"the experiment's data cannot be reached: {_first(error)}"
    changed = task.fingerprint != artifact.lock.data
    return experiment, task, f"the experiment's data has changed: fingerprint {task.fingerprint}, at the export {artifact.lock.data}" if changed else ""


def _data(experiment: Experiment) -> ArrayTask:
    missing = experiment.missing_assets()
    if missing:
        raise UserError(f"{missing[0]}: asset not fetched, run make assets")
    # Third parties warn about what they load.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_task(experiment.data, experiment.model, experiment.workload, experiment.folder)


def _uncompressed(artifact: Artifact, experiment: Experiment | None, task: ArrayTask | None, folder: Path, why: str) -> tuple[Path | None, str]:
    """The uncompressed model's file, or None and why."""
    if experiment is None or task is None:
        return None, why
    try:
        return uncompressed_file(artifact, experiment, task, folder), ""
    except (UserError, TrialError, OSError) as error:
        return None, f"the uncompressed model cannot be reached: {_first(error)}"


def _notes(model: Path) -> list[str]:
    if model.suffix != ".onnx":
        return []
    from compressors.targets.tensorrt_operators import TENSORRT_VERSION, tensorrt_problems

    problems = tensorrt_problems(model)
    listed = f"does not accept: {'; '.join(problems)}" if problems else "accepts every operator of the file"
    return [f"TensorRT {TENSORRT_VERSION}, by its list of operators, {listed}"]


def _first(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
