"""Fixed against early-exit inference: the same model whole and with exits, at thresholds from careless to careful, and the staged artifact measured.

    python experiments/early_exit.py [minilm resnet20 digits] [--out docs/results]

Exits are trained once; a threshold is an evaluation. The threshold that costs least on this machine while it loses at most a point on `search` is exported and
verified in ONNX Runtime; where none loses so little, the best one. Writes early_exit.md and early_exit.svg. Run it on a quiet machine: it calibrates and times.
``make assets`` fetches models and data; digits need nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from compressors.context import logits_of  # noqa: E402
from compressors.graph.exits import Exits, taken  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from evaluators.exit_rates import ExitRates  # noqa: E402
from evaluators.metric import Estimate  # noqa: E402
from evaluators.tasks.intervals import paired_difference  # noqa: E402
from search.artifact_files import ArtifactSource, varied, write_artifact  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.evidence import write_promised, write_raw  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.lock import installed_versions  # noqa: E402
from search.preparing import prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.record import TrialRecord  # noqa: E402
from search.stages import StageRunner  # noqa: E402
from search.verify import verify  # noqa: E402

THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
ALLOWED = 0.01
SMALL = {"after": ["body.0", "body.1"], "threshold": 0.9, "hidden": 32, "epochs": 20, "learning_rate": 0.01, "alpha": 0.7, "temperature": 2}
CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "minilm": ("MiniLM-L6 on CLINC150", str(ROOT / "experiments/minilm_early_exit.yaml"), ()),
    "resnet20": ("ResNet-20 on CIFAR-10", str(ROOT / "experiments/resnet20_early_exit.yaml"), ()),
    "digits": ("The quickstart's network on digits", "quickstart", (f"recipe={json.dumps([{'early_exit': SMALL}])}",)),
}


@dataclass(frozen=True)
class Point:
    """One threshold.

    Attributes:
        threshold: from which on an exit is trusted.
        rates: on ``search``.
        search: whether each example of it is right.
        report: the same of ``report``.
        costs: expected.
    """

    threshold: float
    rates: ExitRates
    search: NDArray[np.float64]
    report: NDArray[np.float64]
    costs: dict[str, Estimate]


def stacked(runner: StageRunner, model: torch.nn.Module, split: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits of every stage, ``[examples, stages, classes]``, and labels."""
    logits, labels = [], []
    task = runner.prepared.task
    for batch in task.batches(split, batch_size=task.evaluation_batch):
        with torch.no_grad():
            found = logits_of(model(**batch.inputs))
        logits.append((found if found.dim() == 3 else found[:, None]).numpy())
        labels.append(batch.labels.numpy())
    return np.concatenate(logits), np.concatenate(labels)


def right(stack: tuple[NDArray[np.float32], NDArray[np.int64]], threshold: float | None) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Whether each example is right, and where it leaves."""
    chosen, stage = taken(stack[0], threshold)
    return (chosen.argmax(-1) == stack[1]).astype(np.float64), stage


def with_threshold(plain: Sequence[dict[str, Any]], threshold: float) -> Recipe:
    return Recipe.from_plain([{name: {**body, "threshold": threshold} if name == "early_exit" else body for name, body in step.items()} for step in plain])


def run(title: str, source: str, settings: Sequence[str], keep: Path | None, drawn: dict[str, list[tuple[str, float, float]]]) -> Iterator[str]:
    """The part of the page about one model; ``drawn`` gets its points: name, share of the whole model's latency, accuracy in %."""
    overrides = ["devices=[this-host/onnxruntime, raspberry-pi-5/onnxruntime]", "constraints=[]", "objectives=[accuracy, latency_ms@this-host/onnxruntime]"]
    experiment = Experiment.load(source, [*overrides, *settings])
    say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    runner = StageRunner(prepare(experiment, Cache(), say), Cache(), say)
    prepared, space = runner.prepared, experiment.space
    plain = space.plain_recipe(space.decode(np.full(len(space.dimensions), 0.5)))
    recipe = with_threshold(plain, 1.0)
    model, edit = runner.model(recipe), runner.plan(recipe)[-1]
    exits = edit.exits
    assert isinstance(exits, Exits)
    whole = {split: stacked(runner, prepared.model, split) for split in ("search", "report")}
    stages = {split: stacked(runner, model, split) for split in ("search", "report")}
    before = {split: right(stack, None)[0] for split, stack in whole.items()}
    full = runner.price(Recipe())
    points = []
    for threshold in THRESHOLDS:
        search, stage = right(stages["search"], threshold)
        rates = ExitRates.of(exits, threshold, stage)
        points.append(Point(threshold, rates, search, right(stages["report"], threshold)[0], prepared.cost(edit, rates)))
    latency, energy = f"latency_ms@{experiment.devices[0]}", f"energy_mj@{experiment.devices[1]}"
    shares = [(f"{p.threshold:g}", p.costs[latency].value / full[latency].value, 100 * float(p.report.mean())) for p in points]
    drawn[title] = [("whole", 1.0, 100 * float(before["report"].mean())), *shares]
    allowed = [p for p in points if p.search.mean() >= before["search"].mean() - ALLOWED]
    best = min(allowed, key=lambda p: p.costs[latency].value) if allowed else max(points, key=lambda p: p.search.mean())
    each = ", ".join(f"{100 * right((stages['report'][0][:, [i]], stages['report'][1]), None)[0].mean():.1f}" for i in range(len(exits.after) + 1))
    yield from (f"## {title}", "", f"Exits after {', '.join(f'`{name}`' for name in exits.after)}. Accuracy of each stage alone on `report`: {each} %.", "")
    head = [
        "threshold",
        "leave at each stage, %",
        "accuracy, %",
        "against the whole model, points [90 %]",
        "expected ms, this host",
        "of the whole",
        "mJ, Pi 5",
    ]
    yield from ("| " + " | ".join(head) + " |", "|" + "---|" * len(head))
    yield f"| none: the model whole | 100 | {100 * before['report'].mean():.2f} | | {full[latency].value:.3g} | 1 | {full[energy].value:.3g} |"
    for p in points:
        difference = paired_difference(p.report, before["report"])
        gain = f"{100 * difference.value:+.2f} [{100 * difference.low:+.2f}, {100 * difference.high:+.2f}]"
        left = " / ".join(f"{100 * share:.0f}" for share in p.rates.left)
        cost, mark = p.costs[latency].value, "**" if p is best else ""
        yield (
            f"| {mark}{p.threshold:g}{mark} | {left} | {100 * p.report.mean():.2f} | {gain} | {cost:.3g} | "
            f"{cost / full[latency].value:.2f} | {p.costs[energy].value:.3g} |"
        )
    yield ""
    yield from exported(runner, with_threshold(plain, best.threshold), best, keep)


def exported(runner: StageRunner, recipe: Recipe, best: Point, keep: Path | None) -> Iterator[str]:
    """What the staged artifact was found to be."""
    prepared = runner.prepared
    found, promised = runner.run(recipe), runner.run(recipe, split="report").metrics
    uncompressed = {**runner.run(Recipe()).metrics, **runner.run(Recipe(), split="report").metrics}
    promised = {**promised, **{name: e for name, e in found.metrics.items() if name not in ("accuracy", "loss")}}
    record = TrialRecord("early-exit", recipe.to_plain(), "ok", metrics=found.metrics, widths=found.widths, candidate=found.candidate)
    with tempfile.TemporaryDirectory() as temporary:
        folder = keep or Path(temporary) / "artifact"
        folder.mkdir(parents=True)
        model = runner.model(recipe)
        write_raw(folder, prepared.experiment, prepared.task, varied(prepared.task))
        write_promised(folder, prepared.task, model)
        write_artifact(ArtifactSource(prepared, model, recipe, record, promised, uncompressed, ("early_exit", ""), runner.shapes(recipe, model)), folder)
        report = verify(folder, seconds=3.0, threads=1, log=lambda line: print(f"verifying {line}", file=sys.stderr, flush=True))
    yield f"The threshold {best.threshold:g} as stages in ONNX Runtime, `compareto verify` (one thread): {report.verdict}."
    yield from ("", "| figure | promised | found | note |", "|---|---|---|---|")
    for check in report.checks:
        if check.name in ("accuracy", "expected_latency_ms", "expected_ratio", "latency_ratio", "end_to_end_ms") or check.name.startswith("reached"):
            promise = "" if check.promised is None else f"{check.promised:.4g}"
            yield f"| {check.name} | {promise} | {'' if check.found is None else f'{check.found:.4g}'} | {check.note} |"
    yield ""


def picture(cases: dict[str, list[tuple[str, float, float]]]) -> str:
    """Accuracy in % against the share of the whole model's expected latency, a panel a model, as SVG; the first point of each is the whole model."""
    width, height, gap = 380, 260, 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width * len(cases)} {height + 60}" font-family="sans-serif" font-size="12">']
    parts.append(f'<rect width="{width * len(cases)}" height="{height + 60}" fill="white"/>')
    for i, (title, points) in enumerate(cases.items()):
        left, low, high = i * width + gap, min(y for _, _, y in points) - 0.5, max(y for _, _, y in points) + 0.5
        right = max(1.1, *(x for _, x, _ in points))
        at = [(left + x / right * (width - gap - 20), 30 + (high - y) / (high - low) * (height - 30)) for _, x, y in points]
        parts.append(f'<text x="{left}" y="18" font-weight="bold">{title}</text>')
        parts.append(f'<path d="M{left} 30V{height}H{left + width - gap - 20}" fill="none" stroke="#888"/>')
        parts += [f'<text x="{left - 6}" y="{30 + (high - y) / (high - low) * (height - 30):.0f}" text-anchor="end">{y:.0f}</text>' for y in _ticks(low, high)]
        shares = [share for share in (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0) if share <= right]
        parts += [f'<text x="{left + s / right * (width - gap - 20):.0f}" y="{height + 16}" text-anchor="middle">{s:g}</text>' for s in shares]
        parts.append(f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at[1:])}" fill="none" stroke="#36c"/>')
        for (name, x, y), (px, py) in zip(points, at, strict=True):
            colour = "#c33" if name == "whole" else "#36c"
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour}"><title>{name}: {y:.2f} % at {x:.2f}</title></circle>')
    said = "accuracy, % (report), against expected latency, share of the whole model's (red)"
    return "\n".join([*parts, f'<text x="{gap}" y="{height + 40}">{said}</text>', "</svg>", ""])


def _ticks(low: float, high: float) -> list[float]:
    step = next(s for s in (1, 2, 5, 10, 20) if (high - low) / s <= 8)
    return [float(y) for y in np.arange(np.ceil(low / step) * step, high, step)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--keep", type=Path, help="a folder for the artifacts")
    args = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    drawn: dict[str, list[tuple[str, float, float]]] = {}
    parts = [line for name in args.cases for line in run(*CASES[name], args.keep / name if args.keep else None, drawn)]
    versions = ", ".join(f"{package} {value}" for package, value in installed_versions().items())
    text = [
        "# Fixed against early-exit inference",
        "",
        "A model with exits answers at the first stage that is sure enough. Quality is of `report`; the shares, and the choice of the threshold (bold: the",
        f"cheapest on this machine that loses at most {100 * ALLOWED:g} point, or else the best), of `search`. What an inference costs is expected from the",
        "shares and the device's model.",
        "`expected_ratio` compares with the whole model, which took turns on the same inputs.",
        "",
        "![accuracy against latency](early_exit.svg)",
        "",
        *parts,
        f"Made by `python experiments/early_exit.py {' '.join(args.cases)}` on {platform.system()} {platform.machine()}, {os.cpu_count()} processors, seed 0;",
        f"{versions}.",
        "",
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "early_exit.md").write_text("\n".join(text), encoding="utf-8")
    (args.out / "early_exit.svg").write_text(picture(drawn), encoding="utf-8")
    print("\n".join(text))


if __name__ == "__main__":
    main()
