"""Is the latency predicted for this machine right? Compressed variants that no calibration has seen are priced, then timed.

    python experiments/benchmarks/host_latency.py [--families resnet mobilenetv2 minilm vit] [--variants 15] [--threads 1] [--seed 0] [--calibrate]
        [--measured FILE.json]

Every family has two models with random weights (another input size, or more layers); half of the variants of a family are of each. A variant prunes every
kind of axis by a ratio of its own and is float or 8-bit (convolutional networks with calibrated ranges, transformers with ranges taken at run time). All are
run by ONNX Runtime in one process, taking turns in nine rounds; a variant's time is the median over the rounds of a round's median. ``--calibrate`` calibrates
this machine (as ``compareto devices calibrate``, and kept as it does) once the variants are exported, just before they are timed: a virtual machine changes its
pace by a third within the hour. ``--measured`` keeps the times and reads them again, so that another model of the costs can be judged by the same ones.
"""

import argparse
import json
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "experiments")]

from cifar10_models import mobilenet_v2, vit_tiny  # noqa: E402 - found beside the experiments
from resnet20 import resnet20  # noqa: E402
from transformers import (  # noqa: E402
    BertConfig,
    BertForSequenceClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

from compressors.compressor import GraphEdit  # noqa: E402
from compressors.context import Batch, Context  # noqa: E402
from compressors.graph import ModelGraph, trace  # noqa: E402
from compressors.pipeline import applied  # noqa: E402
from compressors.pruning.prune import KINDS  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from compressors.scoring import scores_of  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from compressors.targets.onnx_session import OnnxSession  # noqa: E402
from evaluators.devices import device_named  # noqa: E402
from evaluators.devices.this_host import calibrate_this_host  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

ROUNDS, SLICE_S, FEWEST, MOST = 9, 0.03, 5, 100


def resnet18() -> nn.Module:
    return ResNetForImageClassification(ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512]))


def mobilenet_v2_large() -> nn.Module:
    return MobileNetV2ForImageClassification(MobileNetV2Config(tf_padding=False))


def minilm() -> nn.Module:
    config = BertConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=12, num_labels=150)
    return BertForSequenceClassification(config)


def vit_small() -> nn.Module:
    return ViTForImageClassification(ViTConfig(hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=6, patch_size=16))


def image(key: str, side: int) -> Callable[[int], dict[str, Tensor]]:
    return lambda count: {key: torch.randn(count, 3, side, side)}


def text(length: int) -> Callable[[int], dict[str, Tensor]]:
    return lambda count: {"input_ids": torch.randint(999, 30000, (count, length)), "attention_mask": torch.ones(count, length, dtype=torch.long)}


FAMILIES = {
    "resnet": ("static", (("resnet20", resnet20, image("image", 32)), ("resnet18", resnet18, image("pixel_values", 128)))),
    "mobilenetv2": ("static", (("32", mobilenet_v2, image("pixel_values", 32)), ("224", mobilenet_v2_large, image("pixel_values", 224)))),
    "minilm": ("dynamic", (("32 tokens", minilm, text(32)), ("128 tokens", minilm, text(128)))),
    "vit": ("dynamic", (("tiny", vit_tiny, image("pixel_values", 32)), ("small", vit_small, image("pixel_values", 224)))),
}


class Noise:
    """Inputs to calibrate ranges on; nothing is trained."""

    higher_is_better = True

    def __init__(self, inputs: Callable[[int], dict[str, Tensor]]) -> None:
        self._inputs = inputs

    def batches(self, split: str, *, seed: int | None = None, batch_size: int | None = None) -> Iterator[Batch]:
        yield Batch(self._inputs(16), torch.zeros(16, dtype=torch.long))

    def steps(self, split: str, *, batch_size: int | None = None) -> int:
        return 1

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        return logits.sum()

    def score(self, model: nn.Module, split: str) -> tuple[str, float]:
        return "accuracy", 0.0


def recipe(rng: random.Random, graph: ModelGraph, mode: str, integers: bool) -> Recipe:
    kinds = [kind for kind in KINDS if any(axis.kind == kind and axis.fixed is None for axis in graph.axes) and kind not in ("vocabulary", "blocks")]
    ratios = {kind: round(rng.uniform(0, 0.6), 2) for kind in kinds}
    steps: list[dict[str, Any]] = [{"prune": {"criterion": "l2", "scope": rng.choice(["local", "global"]), "ratio": ratios, "round_to": rng.choice([1, 8])}}]
    return Recipe.from_plain([*steps, {"quantize": {"mode": mode}}] if integers else steps)


def variants(family: str, count: int, seed: int, folder: Path | None) -> Iterator[dict[str, Any]]:
    """Each variant's name, graph and shapes, and, where there is a folder, its file and inputs.

    The uncompressed models come first, as variants without a recipe.
    """
    mode, models = FAMILIES[family]
    target = target_named("onnxruntime")
    for number, (name, make, inputs) in enumerate(models):
        torch.manual_seed(0)
        model, example = make().eval(), inputs(1)
        graph = trace(model, example, check_cuts=False)
        scores = {"l2": scores_of(model, graph, "l2", None)}
        for i in range(-1, (count + 1 - number) // 2):
            # Names the variant whatever the others are; the same random numbers for float and integers would only tell them apart by bits.
            rng = random.Random(f"{seed} {family} {name} {i}")
            chosen = Recipe.from_plain([]) if i < 0 else recipe(rng, graph, mode, i % 2 == 1)
            edit = chosen.plan(graph, scores)[-1] if chosen.steps else GraphEdit.identity(graph)
            row = {"family": family, "model": name, "variant": i, "integers": i >= 0 and i % 2 == 1, "graph": graph, "shapes": edit.shapes(graph)}
            if folder is not None:
                smaller = applied(chosen, model, scores, Context(Noise(inputs), model, graph, example, target))
                row["path"] = target.export(smaller, example, folder / f"{family}-{number}-{i}")
                row["inputs"] = {key: value.numpy() for key, value in inputs(1).items()}
                print(f"{family} {name} {i}", file=sys.stderr, flush=True)
            yield row


def timed(rows: list[dict[str, Any]], threads: int) -> list[float]:
    """Milliseconds of each."""
    sessions = [OnnxSession(row["path"], threads) for row in rows]

    def once(i: int) -> float:
        start = time.perf_counter()
        sessions[i](rows[i]["inputs"])
        return 1e3 * (time.perf_counter() - start)

    runs = [max(FEWEST, min(MOST, int(1e3 * SLICE_S / min(once(i) for _ in range(3))))) for i in range(len(rows))]
    rounds = np.zeros((ROUNDS, len(rows)))
    for r in range(ROUNDS):
        print(f"round {r + 1} of {ROUNDS}", file=sys.stderr, flush=True)
        for i in range(len(rows)):
            once(i)
            rounds[r, i] = np.median([once(i) for _ in range(runs[i])])
    return [float(ms) for ms in np.median(rounds, axis=0)]


def kendall(a: np.ndarray, b: np.ndarray) -> float:
    i, j = np.triu_indices(len(a), 1)
    return float(np.mean(np.sign(a[i] - a[j]) * np.sign(b[i] - b[j])))


def summary(title: str, found: np.ndarray, predicted: np.ndarray, low: np.ndarray, high: np.ndarray, speed_up: np.ndarray) -> str:
    error = np.abs(predicted / found - 1)
    covered = np.mean((found >= low) & (found <= high))
    shares = " | ".join(f"{100 * np.mean(error <= limit):.0f} %" for limit in (0.05, 0.1, 0.2))
    return (
        f"| {title} | {len(found)} | {100 * np.mean(error):.1f} % | {100 * np.median(error):.1f} % | {shares} | {kendall(found, predicted):.3f} | "
        f"{100 * np.mean(np.abs(speed_up)):.1f} % | {100 * covered:.0f} % |"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--variants", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibrate", action="store_true")
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--rows", action="store_true", help="print every variant")
    args = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    known = json.loads(args.measured.read_text()) if args.measured and args.measured.is_file() else None
    with tempfile.TemporaryDirectory() as folder:
        made = None if known else Path(folder)
        rows = [row for family in args.families for row in variants(family, args.variants, args.seed, made)]
        names = [f"{row['family']} {row['model']} {row['variant']}" for row in rows]
        if args.calibrate:
            calibrate_this_host(lambda line: print(line, file=sys.stderr, flush=True), args.threads)
        device = device_named(f"this-host/onnxruntime:{args.threads}t", progress=lambda line: print(line, file=sys.stderr))
        times = known or dict(zip(names, timed(rows, args.threads), strict=True))
    for row in rows:
        row["predicted"] = device.cost(row["graph"], row["shapes"])["latency_ms"].estimate(0)
    if args.measured and not known:
        args.measured.write_text(json.dumps(times, indent=1))
    plain = {(row["family"], row["model"]): (times[name], row["predicted"].value) for name, row in zip(names, rows, strict=True) if row["variant"] < 0}
    table = []
    for name, row in zip(names, rows, strict=True):
        whole, expected = plain[row["family"], row["model"]]
        estimate = row["predicted"]
        speed_up = (expected / estimate.value) / (whole / times[name]) - 1
        table.append((times[name], estimate.value, estimate.low, estimate.high, speed_up))
        if args.rows:
            error = estimate.value / times[name] - 1
            print(f"{name} {'int8' if row['integers'] else 'fp32'}: {times[name]:.3f} ms, predicted {estimate.value:.3f} ({error:+.1%})")
    values = np.array(table)
    compressed = np.array([row["variant"] >= 0 for row in rows])
    print("| variants | rows | MAPE | median | within 5 % | 10 % | 20 % | tau | speed-up MAPE | in the 90 % interval |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for family in args.families:
        for integers in (False, True):
            chosen = compressed & np.array([row["family"] == family and row["integers"] == integers for row in rows])
            print(summary(f"{family}, {'int8' if integers else 'fp32'}", *values[chosen].T))
    print(summary("all", *values[compressed].T))


if __name__ == "__main__":
    main()
