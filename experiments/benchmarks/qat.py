"""What quantization costs without training, and with quantization-aware training.

    python experiments/benchmarks/qat.py resnet20 [minilm] [--seeds 3] [--steps 250]

ResNet-20 on CIFAR-10: 8 bits static without training, 4-bit weights with 8-bit activations without and with training. A seed draws the calibration images and
the order of the training images. MiniLM on CLINC150: 4-bit weights in groups of 64, embeddings too, ranges at run time, without and with training.

Differences to fp32 are paired on `report`, of the exported file in ONNX Runtime; `--on search` is what learning rate and length were chosen on. Exit status 1
where a mean is below its bar.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))

from recoveries import ROOT, Runs, accuracies, markdown, paired, points  # found beside this file

from compressors.compressor import GraphEdit
from compressors.context import Context
from compressors.quantization import prepared_state
from compressors.recipe import Recipe
from evaluators.tasks.array_task import ArrayTask, module_predict
from search.cache import Cache
from search.experiment import Experiment
from search.preparing import Prepared, prepare
from search.quiet import quiet_libraries

TRAINING = {"learning_rate": 1e-4, "temperature": 4.0, "alpha": 0.9}
"""Chosen on `search` for ResNet-20, see README.md."""
GROUPS = {"weight_bits": 4, "granularity": 64, "mode": "dynamic"}
RECIPES: dict[str, dict[str, tuple[dict[str, Any], bool]]] = {
    "resnet20": {"int8": ({}, False), "4 bits": ({"weight_bits": 4}, False), "4 bits, qat": ({"weight_bits": 4}, True)},
    "minilm": {"4 bits in groups of 64": (GROUPS, False), "4 bits in groups of 64, qat": (GROUPS, True)},
}
BATCH = {"resnet20": 64, "minilm": 32}
BARS = {"int8": -0.006, "4 bits, qat": -0.015, "4 bits in groups of 64, qat": -0.015}
EXPERIMENTS = {"resnet20": "resnet20_cifar10", "minilm": "minilm_clinc150"}
RESULTS = ROOT / "build/benchmarks/qat.jsonl"


def calibrated_on(task: ArrayTask, seed: int) -> ArrayTask:
    """The same task with calibration examples drawn from `train` by a seed."""
    train, count = task.arrays["train"], len(task.arrays["calibration"]["labels"])
    rows = np.sort(np.random.default_rng(seed).permutation(len(train["labels"]))[:count])
    return dataclasses.replace(task, arrays={**task.arrays, "calibration": {name: values[rows] for name, values in train.items()}})


def run(prepared: Prepared, runs: Runs, name: str, model: str, training: Mapping[str, Any] | None, seed: int, split: str) -> dict[str, Any]:
    """One row: from the file, or computed now."""
    quantize = RECIPES[model][name][0]
    key = {"model": prepared.model_key, "quantize": quantize, "qat": dict(training) if training else None, "seed": seed, "split": split}
    found = runs.get(**key)
    if found is not None:
        return found
    started = time.perf_counter()
    recipe = Recipe.from_plain([{"quantize": quantize}, *([{"qat": dict(training)}] if training else [])])
    task = calibrated_on(prepared.task, seed)
    smaller = prepared.model
    # Every epoch counts the seed up by one: runs of different seeds have no order of examples in common.
    context = Context(task, prepared.model, prepared.graph, task.example_inputs, prepared.target, seed=1000 * seed, log=_say)
    for step, edit in zip(recipe.steps, recipe.plan(prepared.graph, {}), strict=True):
        smaller = step.apply(smaller, edit, context)
    seconds = time.perf_counter() - started
    state = hashlib.sha256(b"".join(value.numpy().tobytes() for value in prepared_state(smaller).values())).hexdigest()[:16]
    correct = task.per_example(module_predict(smaller), split)["accuracy"] > 0
    with tempfile.TemporaryDirectory() as folder:
        path = prepared.target.export(smaller, task.example_inputs, Path(folder))
        exported = task.per_example(prepared.target.load(path), split)["accuracy"] > 0
        size = prepared.target.file_bytes(path)
    row = {"report": _packed(exported), "report_accuracy": float(exported.mean()), "torch": _packed(correct), "bytes": size, "state": state, "seconds": seconds}
    _say(f"{model}, {name}, seed {seed}: {exported.mean():.4f} ({correct.mean():.4f} in torch), {seconds:.0f} s")
    return runs.add(row, **key)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _packed(correct: NDArray[np.bool_]) -> str:
    return np.packbits(correct).tobytes().hex()


def _unpacked(rows: Sequence[str], images: int) -> NDArray[np.float64]:
    return np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(row), dtype=np.uint8))[:images] for row in rows]).astype(np.float64)


def compared(name: str, prepared: Prepared, found: Mapping[str, Sequence[Mapping[str, Any]]], split: str) -> tuple[list[str], bool]:
    """The lines of one model's table, and whether every bar is kept."""
    whole = (prepared.task.per_example(module_predict(prepared.model), split)["accuracy"] > 0).astype(np.float64)
    size = int(prepared.cost(GraphEdit.identity(prepared.graph))["size_bytes"].value)
    lines, fine = [["fp32", f"{size:,}", f"{100 * whole.mean():.2f}", "-", "-", "-"]], True
    for recipe, rows in found.items():
        estimate, in_torch = (
            paired(_unpacked([row[kind] for row in rows], len(whole)), np.stack([whole] * len(rows)), level=0.9) for kind in ("report", "torch")
        )
        bar = BARS.get(recipe)
        fine &= bar is None or estimate[0] >= bar
        lines.append(
            [recipe, f"{rows[0]['bytes']:,}", accuracies(rows), points(estimate), points(in_torch), "-" if bar is None else f"at least {100 * bar:.1f}"]
        )
    heads = ("weights", "bytes", "accuracy: mean (seeds)", "against fp32, points, 90 %", "the same in torch", "bar")
    return [f"{name}, {len(whole)} examples of {split}:", "", *markdown(heads, lines), ""], fine


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=250, help="of training")
    parser.add_argument("--learning-rate", type=float, default=TRAINING["learning_rate"])
    parser.add_argument("--on", choices=("report", "search"), default="report", help="the split that is compared")
    parser.add_argument("--results", type=Path, default=RESULTS, help="finished runs; those that are there are not run again")
    args = parser.parse_args(arguments)
    quiet_libraries()
    runs, fine = Runs(args.results), True
    print(f"{args.steps} steps of training, learning rate {args.learning_rate:g}, {args.seeds} seeds, torch {torch.__version__}\n")
    for model in args.models:
        prepared = prepare(Experiment.load(ROOT / "experiments" / f"{EXPERIMENTS[model]}.yaml"), Cache(), _say)
        training = {**TRAINING, "learning_rate": args.learning_rate, "steps": args.steps, "batch_size": BATCH[model]}
        found = {
            name: [run(prepared, runs, name, model, training if trained else None, seed, args.on) for seed in range(args.seeds)]
            for name, (_, trained) in RECIPES[model].items()
        }
        lines, kept = compared(model, prepared, found, args.on)
        fine &= kept
        print("\n".join(lines), flush=True)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
