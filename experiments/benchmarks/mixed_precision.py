"""At equal bytes, are assigned bit-widths better than uniform ones? Only weights are quantized, to the nearest integers; activations stay float.

    python experiments/benchmarks/mixed_precision.py [--seeds 3]

A budget of b bits is the bytes that all weights would take with b bits each, between the widths that the format stores. Uniform is the widest of these that
fits the budget. A seed is which training examples the sensitivities are measured on. Fitted models come from the stage cache, or are fitted first (minutes).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from recoveries import Runs, accuracies, markdown, paired, points  # noqa: E402 - found beside this file

from compressors.compressor import GraphEdit  # noqa: E402
from compressors.context import Context  # noqa: E402
from compressors.quantization import Quantize  # noqa: E402
from compressors.scoring import scores_of  # noqa: E402
from compressors.targets import Target, target_named  # noqa: E402
from evaluators.tasks.array_task import module_predict  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import Prepared, prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

RESULTS = ROOT / "build/benchmarks/mixed_precision.jsonl"
_EXAMPLES = 256


@dataclass(frozen=True)
class Case:
    """One model in one format.

    Attributes:
        experiment: file below ``experiments/``.
        target: the format.
        granularity: of scales; convolutions have one a channel.
        uniform: widths that the format stores for every weight.
        budgets: bits.
    """

    experiment: str
    target: str
    granularity: str | int
    uniform: tuple[int, ...]
    budgets: tuple[float, ...]


CASES = (
    Case("resnet20_cifar10", "onnxruntime", "channel", (4, 8), (4.5, 5, 6)),
    Case("resnet20_cifar10", "litert", "channel", (2, 4, 8), (3, 4, 6)),
    Case("minilm_clinc150", "onnxruntime", 64, (2, 4, 8), (3, 4, 6)),
)


class Comparison:
    """One case; what was computed before is read from ``runs``."""

    def __init__(self, case: Case, prepared: Prepared, runs: Runs) -> None:
        self.case, self.prepared, self.runs = case, prepared, runs
        self.target: Target = target_named(case.target)

    def step(self, **bits: Any) -> Quantize:
        return Quantize.from_config({"activation_bits": "float", "granularity": self.case.granularity, **bits})

    def scores(self, seed: int) -> dict[str, NDArray[np.float64]]:
        """Sensitivities on the training examples of a seed."""
        name = self.step(mixed={"budget_bits": 8}).criteria()[0]
        run = {"table": name, "model": self.prepared.model_key, "target": self.target.name, "seed": seed}
        found = self.runs.get(**run)
        if found is None:
            task = self.prepared.task
            rows = np.random.default_rng(seed).choice(len(task.arrays["train"]["labels"]), _EXAMPLES, replace=False)
            few = dataclasses.replace(task, arrays={"calibration": {k: v[rows] for k, v in task.arrays["train"].items()}})
            scores = scores_of(self.prepared.model, self.prepared.graph, name, few, self.target)
            print(f"{self.case.experiment}, {self.target.name}: sensitivities of seed {seed}", file=sys.stderr, flush=True)
            found = self.runs.add({"scores": {k: v.tolist() for k, v in scores.items()}}, **run)
        return {k: np.array(v) for k, v in found["scores"].items()}

    def plan(self, step: Quantize, seed: int = 0) -> tuple[GraphEdit, int]:
        """What a step decides, and the bytes of the whole model."""
        graph = self.prepared.graph
        edit = step.plan(graph, {name: self.scores(seed) for name in step.criteria()}, GraphEdit.identity(graph))
        return edit, int(self.target.stored_bytes(graph, edit.shapes(graph))[0])

    def measured(self, edit: GraphEdit) -> Mapping[str, Any]:
        """For each example of ``report`` whether its class is right, of the quantized model."""
        p = self.prepared
        bits = {site.name: int(edit.weight_bits[i]) for i, site in enumerate(p.graph.sites)}
        run = {"bits": bits, "model": p.model_key, "target": self.target.name, "granularity": self.case.granularity}
        found = self.runs.get(**run)
        if found is None:
            context = Context(p.task, p.model, p.graph, p.task.example_inputs, self.target)
            correct = p.task.per_example(module_predict(self.step().apply(p.model, edit, context)), "report")["accuracy"] > 0
            found = self.runs.add({"report": np.packbits(correct).tobytes().hex(), "report_accuracy": float(correct.mean())}, **run)
            print(f"{self.case.experiment}, {self.target.name}: {100 * found['report_accuracy']:.2f} %", file=sys.stderr, flush=True)
        return found

    def correct(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """``[rows, examples]``, 1 where the class is right."""
        examples = len(self.prepared.task.arrays["report"]["labels"])
        return np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(row["report"]), dtype=np.uint8))[:examples] for row in rows]).astype(np.float64)

    def budget_bytes(self, bits: float) -> tuple[int, int, int]:
        """Bytes of a budget, and width and bytes of the uniform model that fits it."""
        stored = [self.plan(self.step(weight_bits=width))[1] for width in self.case.uniform]
        at = max(i for i, width in enumerate(self.case.uniform) if width <= bits)
        return int(np.interp(bits, self.case.uniform, stored)), self.case.uniform[at], stored[at]

    def rows(self, seeds: int) -> list[tuple[list[str], float]]:
        """Cells of each budget, and the upper end of the interval of the difference."""
        scales = "channel" if self.case.granularity == "channel" else f"group {self.case.granularity}"
        found = []
        for bits in self.case.budgets:
            budget, width, uniform_bytes = self.budget_bytes(bits)
            uniform = self.measured(self.plan(self.step(weight_bits=width))[0])
            plans = [self.plan(self.step(mixed={"budget_bytes": budget, "choices": self.case.uniform}), seed) for seed in range(seeds)]
            mixed = [self.measured(edit) for edit, _ in plans]
            mean, low, high = paired(self.correct(mixed), self.correct([uniform] * seeds), 0.9)
            widths = [edit.weight_bits for edit, _ in plans]
            counts = ", ".join(f"{round(np.mean([(w == b).sum() for w in widths]))} of {b}" for b in self.case.uniform if any((w == b).any() for w in widths))
            sizes = f"{uniform_bytes:,}", f"{max(size for _, size in plans):,}"
            verdict = "mixed" if low > 0 else "uniform" if high < 0 else "-"
            about = [self.case.experiment, f"{self.target.name}, {scales}", f"{bits:g}", f"{budget:,}", f"{width} bits, {sizes[0]}"]
            found.append(([*about, f"{100 * uniform['report_accuracy']:.2f}", sizes[1], counts, accuracies(mixed), points((mean, low, high)), verdict], high))
        return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=sorted({case.experiment for case in CASES}), help="experiments")
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished runs; those that are there are not run again")
    args = parser.parse_args(arguments)
    quiet_libraries()
    runs, cells, uncompressed = Runs(args.results), [], {}
    for case in CASES:
        if case.experiment in args.models:
            prepared = prepare(Experiment.load(ROOT / f"experiments/{case.experiment}.yaml"), Cache(), lambda line: print(line, file=sys.stderr))
            comparison = Comparison(case, prepared, runs)
            uncompressed[case.experiment] = float(comparison.measured(GraphEdit.identity(prepared.graph))["report_accuracy"])
            cells += comparison.rows(args.seeds)
    heads = ("model", "stored", "budget, bits", "bytes", "uniform", "accuracy", "mixed, bytes", "weights", "accuracy: mean (seeds)")
    print(f"{args.seeds} seeds, torch {torch.__version__}; uncompressed {', '.join(f'{name} {100 * value:.2f} %' for name, value in uncompressed.items())}\n")
    print("\n".join(markdown((*heads, "mixed - uniform, points, 90 %", "better"), [row for row, _ in cells])))
    return int(any(high < 0 for _, high in cells))


if __name__ == "__main__":
    sys.exit(main())
