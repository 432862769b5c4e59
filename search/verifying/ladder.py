"""A ladder against what it promises: each rung as an artifact, and the mix of models that requests with different budgets get."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UnexportableError
from evaluators.metric import Metric
from evaluators.tasks.array_task import ArrayTask
from search.artifact import Artifact
from search.ladder_run import Ladder, budgets_ms
from search.runtime_process import run_json
from search.verification import keeps
from search.verifying.quality import sized
from search.verifying.report import Check, Report, Verdict

__all__ = ["verify_ladder"]

_REQUESTS = 400


def verify_ladder(
    folder: Path, one: Callable[[Path], Report], reach: Callable[[Artifact], Any], threads: int, provider: str, log: Callable[[str], None]
) -> Report:
    """Verify every rung, then answer requests of ``report`` whose budgets lie between what the fastest and what the slowest model takes, evenly by ratio.

    Args:
        folder: of a ladder whose files are whole.
        one: verifies an artifact.
        reach: the experiment and the task of an artifact, None where they cannot be reached, and why.
        threads: within an operator.
        provider: of ONNX Runtime.
        log: receives progress, a line at a time.
    """
    ladder = Ladder(folder, models=[])
    reports = {}
    for rung in ladder.rungs:
        log(f"rung {rung['id']}")
        reports[rung["id"]] = one(folder / rung["folder"])
    verdicts = [report.verdict for report in reports.values()]
    verdict: Verdict = next((v for v in ("corrupt", "regressed") if v in verdicts), "kept")
    reasons = [f"{name}: {reason}" for name, report in reports.items() if not report.passed for reason in report.reasons]
    checks = [Check(f"{name} {c.name}", c.promised, c.found, c.kept, c.note, c.low, c.high) for name, report in reports.items() for c in _told(report)]
    _, task, why = reach(Artifact.load(folder / ladder.rungs[0]["folder"]))
    if verdict == "kept" and task is not None and not why:
        log("the mix")
        try:
            mix = _mix(folder, ladder, sized(Artifact.load(folder / ladder.rungs[0]["folder"]), task), threads, provider)
        except UnexportableError as error:
            return Report("regressed", tuple(checks), (str(error),))
        checks += mix
        reasons += [check.reason for check in mix if check.kept is False]
        verdict = "regressed" if reasons else verdict
    return Report(verdict, tuple(checks), tuple(reasons), () if not why else (f"the mix was not measured, {why}",))


def _told(report: Report) -> list[Check]:
    return [check for check in report.checks if check.promised is not None or check.name == "latency_ms"]


def _mix(folder: Path, ladder: Ladder, task: ArrayTask, threads: int, provider: str) -> list[Check]:
    rng = np.random.default_rng(0)
    labels = task.raw("report")[1]
    rows = rng.permutation(len(labels))[:_REQUESTS]
    shares = rng.uniform(size=len(rows))
    picked = np.array([ladder.pick(float(budget)) for budget in budgets_ms(ladder, shares)])
    inputs = task.prepare({name: value[rows] for name, value in task.raw("report")[0].items()})
    found = _answers(folder, inputs, shares, threads, provider)
    name, metric = ladder.plan["metric"], next(m for m in task.quality if m.name == ladder.plan["metric"])
    promised = _promised(folder, ladder, found["rung"], rows, name)
    judged = task.of_outputs(found["logits"], "report", rows)
    summary = task.summarise(judged) if judged else {}
    quality = summary[name].value if name in summary else None
    checks = [
        Check("mix requests", None, float(len(rows)), None, f"budgets from {found['budget_ms'].min():.3g} to {found['budget_ms'].max():.3g} ms"),
        _quality(metric, promised, quality),
        Check("mix latency_ms", None, float(found["ms"].mean()), None, "mean over requests, this machine"),
        Check(
            "mix in_time", None, float((found["ms"] <= found["budget_ms"]).mean()), None, "share of requests within their budget; some are below any model's"
        ),
    ]
    for i, rung in enumerate(ladder.rungs):
        own = found["ms"][found["rung"] == i]
        took = f"; {np.median(own):.3g} ms each" if len(own) else ""
        note = f"share of requests, beside that at the promised latencies{took}"
        checks.append(Check(f"mix {rung['id']}", float((picked == i).mean()), float((found["rung"] == i).mean()), None, note))
    return checks


def _answers(folder: Path, inputs: dict[str, NDArray[Any]], budgets: NDArray[np.float64], threads: int, provider: str) -> dict[str, NDArray[Any]]:
    """What the runner gives, in a process of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        requests, answers = Path(temporary) / "requests.npz", Path(temporary) / "answers.npz"
        arrays: dict[str, Any] = {**inputs, "budget": budgets}
        np.savez(requests, **arrays)
        program = str(Path(__file__).parents[1] / "ladder_run.py")
        options = ["--threads", str(threads), "--provider", provider, "--requests", str(requests), "--answers", str(answers)]
        run_json([sys.executable, "-P", program, "--folder", str(folder), *options])
        with np.load(answers, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}


def _promised(folder: Path, ladder: Ladder, picked: NDArray[np.int64], rows: NDArray[np.int64], name: str) -> float | None:
    """Quality of the models that requests got, on the very examples, in torch; None of a metric that is no mean, or where an artifact does not say."""
    from search.evidence import read_promised

    each = [read_promised(folder / rung["folder"]).get(name) for rung in ladder.rungs]
    if name not in ("accuracy", "loss") or any(values is None for values in each):
        return None
    return float(np.mean([values[row] for i, row in zip(picked, rows, strict=True) if (values := each[i]) is not None]))


def _quality(metric: Metric, promised: float | None, found: float | None) -> Check:
    if found is None:
        return Check(f"mix {metric.name}", None, None, None, "not measured: the requests' outputs alone do not tell it")
    kept = None if promised is None else keeps(metric, promised - (0.01 if metric.direction == "max" else -0.01), found)
    return Check(f"mix {metric.name}", promised, found, kept, "of the models that answered, on the same examples in torch")
