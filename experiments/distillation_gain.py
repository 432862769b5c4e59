"""Distillation against plain fine-tuning: the same pruned model, the same steps, the same data in the same order.

    python experiments/distillation_gain.py [resnet20 minilm] [--seeds 3] [--out docs/results]

Of each seed every way of recovery has the same batches, so that differences are paired by seed and by example of ``report``. Writes distillation.md and
distillation.svg into ``--out``; with ``--runs FILE`` what was trained before is not trained again. ``make assets`` fetches models and data.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "experiments/benchmarks")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from recoveries import Runs, markdown, paired  # noqa: E402 - found beside the benchmarks

from compressors.compressor import GraphEdit  # noqa: E402
from compressors.context import Context  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from evaluators.tasks.array_task import module_predict  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.lock import installed_versions  # noqa: E402
from search.preparing import Prepared, prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.stages import StageRunner  # noqa: E402

PLAIN = "plain fine-tuning"


@dataclass(frozen=True)
class Case:
    """A model, how it is pruned, and the ways to recover it; ``layers`` are those whose maps are matched."""

    title: str
    experiment: str
    prune: Mapping[str, Any]
    training: Mapping[str, Any]
    layers: Sequence[str]

    @property
    def ways(self) -> dict[str, list[dict[str, Any]]]:
        steps = self.training["steps"]
        features = {"layers": list(self.layers)}
        return {
            PLAIN: [{"alpha": 0}],
            "logits, T 4": [{"alpha": 0.9, "temperature": 4}],
            "logits, T 8 to 1": [{"alpha": 0.9, "temperature": {"start": 8, "end": 1, "schedule": "cosine"}}],
            "features with logits": [{"alpha": 0.9, "temperature": 4, "features": features}],
            "features, then logits": [
                {"logits": False, "features": features, "steps": steps // 4},
                {"alpha": 0.9, "temperature": 4, "steps": steps - steps // 4},
            ],
        }


SGD = {"learning_rate": 0.05, "optimizer": "sgd", "weight_decay": 0.0005, "batch_size": 64}
CASES = {
    "resnet20": Case(
        "ResNet-20, CIFAR-10, half of the channels inside blocks",
        "resnet20_cifar10",
        {"criterion": "l2", "ratio": {"channels": 0.5}},
        {"steps": 125, **SGD},
        ("layer1", "layer2", "layer3"),
    ),
    "minilm": Case(
        "MiniLM-L6, CLINC150, half of the feed-forward units and a quarter of the heads",
        "minilm_clinc150",
        {"criterion": "l2", "ratio": {"ffn": 0.5, "heads": 0.25}},
        {"steps": 120, "learning_rate": 0.0002, "batch_size": 32},
        ("bert.encoder.layer.?",),
    ),
}


def correct(prepared: Prepared, model: torch.nn.Module) -> NDArray[np.bool_]:
    """Of each example of ``report``, whether its class is right."""
    return prepared.task.per_example(module_predict(model), "report")["accuracy"] > 0


def run(case: Case, seeds: int, runs: Runs, only: Sequence[str]) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64], NDArray[np.float64], float]:
    """By way, ``[seeds, examples]`` of right answers; those of the uncompressed and of the pruned model, ``[examples]``; MACs of the pruned one."""
    plain = Experiment.load(ROOT / f"experiments/{case.experiment}.yaml", ["devices=[raspberry-pi-4/onnxruntime]", "objectives=[accuracy, size_bytes]"])
    cache = Cache()
    prepared = prepare(plain, cache, print)
    runner = StageRunner(prepared, cache)
    recipe = Recipe.from_plain([{"prune": dict(case.prune)}])
    pruned = runner.model(recipe)
    macs = runner.price(recipe)["macs"].value / prepared.graph.macs
    edit = GraphEdit.identity(prepared.graph)
    found: dict[str, NDArray[np.float64]] = {}
    for way, stages in case.ways.items():
        if only and way not in only:
            continue
        rows = []
        for seed in range(seeds):
            steps = Recipe.from_plain([{"distill": {**case.training, **stage}} for stage in stages])
            name = {"case": case.title, "recipe": steps.fingerprint, "seed": seed, "model": prepared.model_key, "data": prepared.data_key}
            row = runs.get(**name)
            if row is None:
                started, model = time.monotonic(), pruned
                for step in steps.steps:
                    context = Context(prepared.task, prepared.model, prepared.graph, prepared.task.example_inputs, prepared.target, seed=1000 * seed)
                    model = step.apply(model, edit, context)
                right = correct(prepared, model)
                row = runs.add({"right": np.packbits(right).tobytes().hex(), "seconds": time.monotonic() - started}, **name)
                print(f"{case.title}: {way}, seed {seed}: {100 * right.mean():.2f} % in {row['seconds']:.0f} s", flush=True)
            bits = np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), dtype=np.uint8))
            rows.append(bits[: prepared.task.examples("report")].astype(np.float64))
        found[way] = np.stack(rows)
    return found, correct(prepared, prepared.model).astype(np.float64), correct(prepared, pruned).astype(np.float64), macs


def table(found: Mapping[str, NDArray[np.float64]], whole: NDArray[np.float64], pruned: NDArray[np.float64]) -> Iterator[str]:
    rows = [["uncompressed", f"{100 * whole.mean():.2f}", "", ""], ["pruned, not trained", f"{100 * pruned.mean():.2f}", "", ""]]
    for way, right in found.items():
        mean, low, high = (100 * value for value in paired(right, found[PLAIN])) if way != PLAIN else (0, 0, 0)
        gain = "" if way == PLAIN else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"
        verdict = "" if way == PLAIN else "helps" if low > 0 else "hurts" if high < 0 else "no difference that shows"
        rows.append([way, f"{100 * right.mean():.2f} ({', '.join(f'{100 * value:.1f}' for value in right.mean(axis=1))})", gain, verdict])
    yield from markdown(["recovery", "accuracy, % (each seed)", "against plain, points [95 %]", ""], rows)


def picture(cases: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> str:
    """Differences from plain fine-tuning with their intervals, as SVG."""
    lines = [
        (title, way, tuple(100 * v for v in paired(right, found[PLAIN]))) for title, found in cases.items() for way, right in found.items() if way != PLAIN
    ]
    low, high = min(0.0, *(e[1] for _, _, e in lines)), max(0.0, *(e[2] for _, _, e in lines))
    width, left, row = 760, 250, 26
    scale = (width - left - 30) / (high - low or 1)
    x = lambda value: left + (value - low) * scale  # noqa: E731
    height = row * (len(lines) + 2 * len(cases)) + 40
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">']
    parts.append(f'<rect width="{width}" height="{height}" fill="white"/><line x1="{x(0):.1f}" y1="10" x2="{x(0):.1f}" y2="{height - 30}" stroke="#888"/>')
    y, shown = 24, ""
    for title, way, (mean, start, end) in lines:
        if title != shown:
            y += 4 if not shown else row
            parts.append(f'<text x="10" y="{y}" font-weight="bold">{title}</text>')
            shown, y = title, y + row
        parts.append(f'<text x="20" y="{y + 4}">{way}</text><line x1="{x(start):.1f}" y1="{y}" x2="{x(end):.1f}" y2="{y}" stroke="#36c" stroke-width="2"/>')
        parts.append(f'<circle cx="{x(mean):.1f}" cy="{y}" r="4" fill="#36c"><title>{way}: {mean:+.2f} [{start:+.2f}, {end:+.2f}]</title></circle>')
        y += row
    step = next(s for s in (0.5, 1, 2, 5, 10, 20) if (high - low) / s <= 8)
    ticks = np.arange(np.ceil(low / step) * step, high + 1e-9, step)
    parts += [f'<text x="{x(tick):.1f}" y="{height - 12}" text-anchor="middle">{tick:+g}</text>' for tick in ticks]
    return "\n".join([*parts, f'<text x="10" y="{height - 12}">points against plain fine-tuning</text></svg>', ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=[], help="only these, beside plain fine-tuning")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results")
    parser.add_argument("--runs", type=Path, default=Path("distillation_gain.jsonl"))
    args = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    runs, tables, found = Runs(args.runs), [], {}
    for name in args.cases:
        case = CASES[name]
        only = [PLAIN, *args.ways] if args.ways else []
        found[case.title], whole, pruned, macs = run(case, args.seeds, runs, only)
        training = ", ".join(f"{key} {value}" for key, value in case.training.items())
        examples = len(whole)
        tables += [f"## {case.title}", "", f"{macs:.2f} of the MACs are left. {training}; {examples:,} examples of `report`, {args.seeds} seeds.", ""]
        tables += [*table(found[case.title], whole, pruned), ""]
    versions = ", ".join(f"{package} {value}" for package, value in installed_versions().items())
    text = [
        "# Distillation against plain fine-tuning",
        "",
        "A pruned model is recovered in several ways with the same number of steps; of each seed all have the same batches in the same order. Differences are",
        "paired by seed and by example; intervals count both as samples of many. Features are matched through learned projections.",
        "",
        "![differences](distillation.svg)",
        "",
        *tables,
        f"Made by `python experiments/distillation_gain.py {' '.join(args.cases)} --seeds {args.seeds}` on {platform.system()} {platform.machine()},",
        f"one thread; {versions}.",
        "",
    ]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "distillation.md").write_text("\n".join(text))
    (args.out / "distillation.svg").write_text(picture(found))
    print("\n".join(text))


if __name__ == "__main__":
    main()
