"""How long does it take to see a model, and to cut one in half?

    python experiments/benchmarks/tracing.py [MODEL ...] [--repetitions 3]

Every repetition is a process of its own on one thread: it imports the libraries and builds the model, then the clock starts. CPU seconds of one thread are
what an idle machine takes, whatever else runs beside; exit status 1 where their median is beyond the limit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

TRACE_LIMIT, PRUNE_LIMIT = 15.0, 3.0
HALF = [{"prune": {"criterion": "l2", "ratio": {"ffn": 0.5, "heads": 0.5}}}]


def bert() -> Any:
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(BertConfig()), tokens("input_ids", "attention_mask")


def vit() -> Any:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(num_labels=1000)), image()


def resnet() -> Any:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig(num_labels=1000)), image()


def llama() -> Any:
    """The shape of Llama 3.2 1B."""
    from transformers import LlamaConfig, LlamaForCausalLM

    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    config = LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131072,
        rms_norm_eps=1e-5,
        rope_parameters=rope,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config), tokens("input_ids")


def tokens(*names: str) -> dict[str, Any]:
    import torch

    return {name: torch.ones(1, 128, dtype=torch.int64) for name in names}


def image() -> dict[str, Any]:
    import torch

    return {"pixel_values": torch.ones(1, 3, 224, 224)}


@dataclass(frozen=True)
class Model:
    """What is traced, and on which device: on ``meta`` there are no weights."""

    name: str
    build: Callable[[], Any]
    device: str


MODELS = (
    Model("BERT-base", bert, "cpu"),
    Model("ViT-B/16", vit, "cpu"),
    Model("ResNet-50", resnet, "cpu"),
    Model("BERT-base", bert, "meta"),
    Model("ViT-B/16", vit, "meta"),
    Model("ResNet-50", resnet, "meta"),
    Model("Llama 1B", llama, "meta"),
)


class Clock:
    """Seconds by the wall and of this process's CPU since the last reading."""

    def __init__(self) -> None:
        self._last = time.perf_counter(), time.process_time()

    def read(self) -> dict[str, float]:
        last, self._last = self._last, (time.perf_counter(), time.process_time())
        return {"wall": self._last[0] - last[0], "cpu": self._last[1] - last[1]}


def measure(model: Model) -> dict[str, Any]:
    """One repetition, in this process."""
    import torch

    from compressors.graph import trace

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.device(model.device):
        module, inputs = model.build()
    module.eval()
    clock = Clock()
    graph = trace(module, inputs)
    widths = [axis for axis in graph.axes if axis.kind not in ("input", "constant", "block", "rank", "dense", "own")]
    result: dict[str, Any] = {
        "trace": clock.read(),
        "parameters": graph.parameters,
        "macs": graph.macs,
        "axes": len(widths),
        "prunable": len(graph.prunable),
        "fingerprint": graph.fingerprint,
    }
    if model.build is bert and model.device == "cpu":
        result |= halve(module, graph, inputs)
    return result


def halve(module: Any, graph: Any, inputs: Any) -> dict[str, Any]:
    """Seconds to score, plan and cut, and then all at once with the trace, as ``compareto.compress`` does it."""
    from compressors.context import Context
    from compressors.pipeline import compress
    from compressors.recipe import Recipe
    from compressors.scoring import scores_of
    from compressors.targets import target_named

    recipe = Recipe.from_plain(HALF)
    clock = Clock()
    scores = {name: scores_of(module, graph, name, None) for name in recipe.criteria()}
    edit = recipe.plan(graph, scores)[-1]
    smaller = recipe.steps[0].apply(module, edit, Context(None, module, graph, inputs, target_named("onnxruntime")))
    result: dict[str, Any] = {"prune": clock.read()}
    shapes = edit.shapes(graph)
    result |= {"left": sum(p.numel() for p in smaller.parameters()) / graph.parameters, "macs_left": int(graph.count_macs(shapes)[0]) / graph.macs}
    clock.read()
    compress(module, recipe, inputs)
    return result | {"compress": clock.read()}


def repeated(index: int, repetitions: int) -> list[dict[str, Any]]:
    found = []
    for _ in range(repetitions):
        done = subprocess.run([sys.executable, __file__, "--one", str(index)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{MODELS[index].name}: {done.stderr[-2000:]}")
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def seconds(rows: list[dict[str, Any]], part: str, clock: str) -> str:
    values = sorted(row[part][clock] for row in rows)
    return f"{statistics.median(values):.2f} ({values[0]:.2f}-{values[-1]:.2f})"


def median(rows: list[dict[str, Any]], part: str) -> float:
    return statistics.median(row[part]["cpu"] for row in rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"of {', '.join(dict.fromkeys(m.name for m in MODELS))} (default: all)")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.one is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            print(json.dumps(measure(MODELS[args.one])))
        return 0
    fine = True
    print(f"{args.repetitions} processes each, one thread: median (range)\n")
    print("| model | weights | parameters | axes | that can be cut | trace, CPU s | trace, wall s |\n|---|---|---|---|---|---|---|")
    halved = []
    for i, model in enumerate(MODELS):
        if args.models and model.name not in args.models:
            continue
        rows = repeated(i, args.repetitions)
        fine &= median(rows, "trace") <= TRACE_LIMIT
        first, weights = rows[0], "no (meta)" if model.device == "meta" else "random"
        counts = f"{first['parameters'] / 1e6:.1f} M | {first['axes']} | {first['prunable']}"
        print(f"| {model.name} | {weights} | {counts} | {seconds(rows, 'trace', 'cpu')} | {seconds(rows, 'trace', 'wall')} |", flush=True)
        halved += [rows] if "prune" in first else []
    for rows in halved:
        fine &= median(rows, "prune") <= PRUNE_LIMIT
        print(
            f"\nHalf of BERT-base's heads and feed-forward units: {rows[0]['left']:.0%} of the parameters and {rows[0]['macs_left']:.0%} of the MACs are left\n"
        )
        print("| | CPU s | wall s |\n|---|---|---|")
        for part, name in (
            ("prune", "scores, plan, cut and check of a traced model"),
            ("compress", "`compareto.compress`, which traces it (again, in the same process)"),
        ):
            print(f"| {name} | {seconds(rows, part, 'cpu')} | {seconds(rows, part, 'wall')} |")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
