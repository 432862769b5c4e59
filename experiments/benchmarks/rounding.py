"""What better rounding of few-bit weights wins back: ResNet-20 on CIFAR-10 and MiniLM on CLINC150.

    python experiments/benchmarks/rounding.py [resnet20_cifar10 | minilm_clinc150] [--split report]

Every row is one recipe, without training, on the same calibration data; differences are paired over the examples of the split. While settings are chosen, the
split is ``search``. Finished runs are kept and not run again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from recoveries import Runs, markdown, paired, points, state_of  # noqa: E402 - found beside this file

from compressors.pipeline import compress  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from evaluators.tasks.array_task import module_predict  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import Prepared, prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

RESULTS = ROOT / "build/benchmarks/rounding.jsonl"
WAYS: dict[str, dict[str, Any]] = {
    "nearest, range mse": {},
    "nearest, range min-max": {"weight_range": "min-max"},
    "nearest, bias correction": {"bias_correction": True},
    "nearest, range min-max, bias correction": {"weight_range": "min-max", "bias_correction": True},
    "gptq": {"rounding": "gptq"},
    "gptq, bias correction": {"rounding": "gptq", "bias_correction": True},
    "adaround": {"rounding": "adaround"},
}
CASES: dict[str, list[dict[str, Any]]] = {
    "resnet20_cifar10": [{"weight_bits": bits, "activation_bits": activations} for bits in (4, 3) for activations in ("float", 8)],
    "minilm_clinc150": [{"weight_bits": 4, "activation_bits": "float", "granularity": 64}],
}
PREPARATIONS: dict[str, list[str]] = {"resnet20_cifar10": ["equalize"], "minilm_clinc150": ["equalize", "smooth"]}


def recipes(name: str) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Case, way and steps of each row."""
    for case in CASES[name]:
        described = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in case.items())
        for way, settings in WAYS.items():
            yield described, way, [{"quantize": {**case, **settings}}]
        for step in PREPARATIONS[name]:
            yield described, f"{step}, nearest, range mse", [{step: {}}, {"quantize": case}]


def measured(prepared: Prepared, steps: list[dict[str, Any]], split: str) -> dict[str, Any]:
    """Which examples are right, and what it took."""
    started = time.perf_counter()
    model = prepared.model
    if steps:
        model = compress(model, steps, prepared.task.example_inputs, prepared.task, log=lambda line: print(f"    {line}", file=sys.stderr))
    seconds = time.perf_counter() - started
    correct = prepared.task.per_example(module_predict(model), split)["accuracy"] > 0
    return {"correct": np.packbits(correct).tobytes().hex(), "examples": len(correct), "seconds": seconds}


def right(row: dict[str, Any]) -> Any:
    """``[1, examples]``, 1 where the answer is."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(row["correct"]), dtype=np.uint8))[None, : row["examples"]].astype(np.float64)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--split", default="search", choices=("search", "report"))
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished runs; those that are there are not run again")
    args = parser.parse_args(arguments)
    quiet_libraries()
    runs = Runs(args.results)
    for name in args.experiments:
        prepared = prepare(Experiment.load(ROOT / f"experiments/{name}.yaml"), Cache(), lambda line: print(line, file=sys.stderr))
        key = state_of(prepared.model)

        def row(steps: list[dict[str, Any]], prepared: Prepared = prepared, key: str = key) -> dict[str, Any]:
            case = {"baseline": key, "recipe": Recipe.from_plain(steps).to_plain(), "split": args.split}
            return runs.get(**case) or runs.add(measured(prepared, steps, args.split), **case)

        whole, nearest, lines = right(row([])), None, []
        for case, way, steps in recipes(name):
            found = row(steps)
            correct = right(found)
            print(f"{case}: {way}: {correct.mean():.4f}, {found['seconds']:.0f} s", file=sys.stderr, flush=True)
            nearest = correct if way == "nearest, range mse" else nearest
            against = "-" if way == "nearest, range mse" else points(paired(correct, nearest))
            lines.append([case, way, f"{100 * correct.mean():.2f}", points(paired(correct, whole)), against, f"{found['seconds']:.0f} s"])
        print(f"\n{name}, {len(whole[0])} examples of {args.split}, uncompressed {100 * whole.mean():.2f} %\n")
        heads = ("weights", "rounding", "accuracy, %", "against float, points, 95 %", "against nearest with range mse", "to quantize")
        print("\n".join(markdown(heads, lines)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
