"""Are the time to the first token and the time a token predicted right?

    python experiments/benchmarks/generation.py host [--prompt 64] [--new 64] [--rounds 7]
    python experiments/benchmarks/generation.py aihub --measurements aihub_llm.csv

``host``: stories260k and a Llama of 32 million parameters with random weights, exported with their caches at 32, 8 and 4 bits, told in ONNX Runtime with one
thread and greedily; the variants take turns, medians over the rounds, against ``this-host/onnxruntime``.

``aihub``: language models on neural processors as Qualcomm AI Hub publishes them (qualcomm/ai-hub-models, BSD-3), in the format of its table: 4-bit weights,
tokens a second with a full context and the time to the first token of a prompt of at most 128. The models that are Llamas in their shapes are traced
without weights, with two and with four layers, and priced with as many as they have: costs are linear in their number. How fast weights and caches are read
is also fitted with each model held out; the last two lines are those of ``_streaming.yaml``.
"""

import argparse
import csv
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402 - found beside this file
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

from compressors.compressor import GraphEdit  # noqa: E402
from compressors.graph import Entry, ModelGraph, Shapes, generation_entries, trace  # noqa: E402
from compressors.pipeline import compress  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from compressors.targets.onnx_generation import Generator  # noqa: E402
from evaluators.devices import device_named  # noqa: E402
from evaluators.devices.profile import load_profile, profile_names  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

STORIES = ROOT / "experiments/assets/stories260k"
RANDOM = LlamaConfig(vocab_size=8192, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4)
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "fp32": [],
    "int8": [{"quantize": {"weight_bits": 8, "activation_bits": 8, "mode": "dynamic"}}],
    "4 bits": [{"quantize": {"weight_bits": 4, "granularity": 32, "activation_bits": 8, "mode": "dynamic"}}],
}
METRICS = {"ttft_ms": "first_token_ms", "ms_per_token": "token_ms"}
CHUNK = 128
"""Tokens of a prompt that are read at once on those processors: the shortest time to a first token is that of one chunk."""


@dataclass(frozen=True)
class Shape:
    """A language model as a Llama: hidden size, inner size, layers, heads, groups, vocabulary; size of a head where it is not hidden / heads."""

    hidden: int
    inner: int
    layers: int
    heads: int
    groups: int
    vocabulary: int
    head: int | None = None
    tied: bool = False

    def config(self, layers: int) -> LlamaConfig:
        return LlamaConfig(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.inner,
            num_hidden_layers=layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.groups,
            head_dim=self.head or self.hidden // self.heads,
            tie_word_embeddings=self.tied,
        )


LLAMA_3_8B = Shape(4096, 14336, 32, 32, 8, 128256)
SHAPES = {
    "llama_v3_2_1b": Shape(2048, 8192, 16, 32, 8, 128256, tied=True),
    "llama_v3_2_3b": Shape(3072, 8192, 28, 24, 8, 128256, tied=True),
    "phi_3_5_mini": Shape(3072, 8192, 32, 32, 32, 32064),
    "llama_v2_7b": Shape(4096, 11008, 32, 32, 32, 32000),
    "mistral_7b": Shape(4096, 14336, 32, 32, 8, 32768),
    "qwen2": Shape(3584, 18944, 28, 28, 4, 152064),
    "falcon_v3_7b": Shape(3072, 23040, 28, 12, 4, 131072, head=256),
    "baichuan2_7b": Shape(4096, 11008, 32, 32, 32, 125696),
    "ibm_granite_v3_1_8b": Shape(4096, 12800, 40, 32, 8, 49155, tied=True),
    "llama_v3_1": LLAMA_3_8B,
    "llama_v3_8b": LLAMA_3_8B,
    "llama_v3_elyza": LLAMA_3_8B,
    "llama_v3_taide": LLAMA_3_8B,
}
"""By how their names begin, from their published configurations; IndusQ, JAIS and PLaMo have other layers."""


def edited(graph: ModelGraph, recipe: Sequence[dict[str, Any]]) -> Shapes:
    plan = Recipe.from_plain(list(recipe)).plan(graph, {}) if recipe else ()
    return (plan[-1] if plan else GraphEdit.identity(graph)).shapes(graph)


def host(prompt: int, new: int, rounds: int) -> None:
    device, target = device_named("this-host/onnxruntime", progress=lambda line: print(line, file=sys.stderr)), target_named("onnxruntime")
    torch.manual_seed(0)
    models = {"stories260k": LlamaForCausalLM.from_pretrained(STORIES), "Llama, 32 M": LlamaForCausalLM(RANDOM)}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            example = {"input_ids": torch.arange(prompt)[None] % 500 + 3}
            example["attention_mask"] = torch.ones_like(example["input_ids"])
            graph = trace(model.eval(), example, check_cuts=False, programs=generation_entries(model, example, new_tokens=new))
            for variant, recipe in VARIANTS.items():
                smaller = compress(model, recipe, example) if recipe else model
                path = target.export(smaller, example, Path(folder) / str(len(rows)))
                costs = device.cost(graph, edited(graph, recipe))
                predicted = {key: costs[key].estimate(0) for key in METRICS}
                rows.append({"name": name, "variant": variant, "generator": Generator(path, 1), "tokens": example["input_ids"].numpy(), "predicted": predicted})
                print(f"{name} {variant}", file=sys.stderr, flush=True)
        found: list[list[dict[str, float]]] = [[] for _ in rows]
        for number in range(rounds + 1):
            for row, own in zip(rows, found, strict=True):
                statistics = row["generator"].generate({"input_ids": row["tokens"]}, new).statistics()
                if number:
                    own.append(statistics)
    print(f"{prompt} tokens of a prompt, {new} new ones, one thread\n")
    print("| model | variant | first token, ms | predicted | error | a token, ms | predicted | error |")
    print("|---|---|---|---|---|---|---|---|")
    for row, own in zip(rows, found, strict=True):
        cells = []
        for key, measured in METRICS.items():
            ms, estimate = float(np.median([one[measured] for one in own])), row["predicted"][key]
            cells.append(f"{ms:.3g} | {estimate.value:.3g} ({estimate.low:.3g}-{estimate.high:.3g}) | {estimate.value / ms - 1:+.0%}")
        print(f"| {row['name']} | {row['variant']} | {' | '.join(cells)} |")


def packed(graph: ModelGraph) -> Shapes:
    """Weights in 4 bits."""
    base = graph.baseline()
    bits = np.where([site.operator != "embedding" for site in graph.sites], 4, 16)[None].astype(np.int64)
    return replace(base, weight_bits=bits, activation_bits=np.full_like(bits, 8), granularity=np.full_like(bits, 32), dynamic=np.array([True]))


def traced(shape: Shape, layers: int, context: int) -> ModelGraph:
    from transformers.cache_utils import DynamicCache
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    register_dynamic_cache_export_support()
    config = shape.config(layers)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).eval()
        cache = DynamicCache(config=config)
        for layer in range(layers):
            keys = torch.empty(1, shape.groups, context - 1, config.head_dim)
            cache.update(keys, keys.clone(), layer)
        tokens, mask = torch.zeros(1, CHUNK, dtype=torch.int64), torch.ones(1, context, dtype=torch.int64)
    step = Entry({"input_ids": tokens[:, :1], "attention_mask": mask, "past_key_values": cache})
    return trace(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, check_cuts=False, programs={"decode": step})


def linear(at: float, two: float, four: float) -> float:
    """A cost with so many layers from those with two and with four."""
    return two + (four - two) * (at - 2) / 2


def aihub(measurements: Path) -> None:
    devices = {text: name for name in profile_names() for text in load_profile(name).names}
    graphs: dict[tuple[Shape, int], tuple[ModelGraph, ModelGraph]] = {}
    rows: list[dict[str, Any]] = []
    for line in csv.DictReader(measurements.open()):
        shape = next((shape for prefix, shape in SHAPES.items() if line["model"].startswith(prefix)), None)
        if shape is None or line["precision"] != "w4a16":
            continue
        place, name = (shape, int(line["context"])), devices[line["device"]]
        if place not in graphs:
            graphs[place] = (traced(shape, 2, place[1]), traced(shape, 4, place[1]))
            print(f"{line['model']}, {place[1]} tokens", file=sys.stderr, flush=True)
        shipped: Any = device_named(f"{name}.npu/qnn_dlc").model  # type: ignore[attr-defined]
        slow, fast = (predicted(replace(shipped, stream_gb_s=rate), shape, graphs[place]) for rate in (1.0, 2.0))
        # Milliseconds are a + b / rate, as long as no rate but this one is the limit.
        streamed = 2 * (slow["ms_per_token"] - fast["ms_per_token"])
        rows.append(
            {
                "model": line["model"],
                "shape": shape,
                "device": name,
                "peak": load_profile(name).units["npu"].bandwidth_gb_s.value,
                "predicted": predicted(shipped, shape, graphs[place]),
                "token_ms": 1e3 / float(line["tokens_per_s"]),
                "first_ms": float(line["ttft_ms_min"]) if place[1] > 1024 else np.nan,
                "streamed": streamed,
                "other": slow["ms_per_token"] - streamed,
            }
        )
    for row in rows:
        row["rate"] = row["streamed"] / max(row["token_ms"] - row["other"], 0.1 * row["token_ms"])
        first = "" if np.isnan(row["first_ms"]) else f"; first {row['first_ms']:.0f} ms, predicted {row['predicted']['ttft_ms']:.0f}"
        token = f"{row['token_ms']:.1f} ms a token, predicted {row['predicted']['ms_per_token']:.1f}, read at {row['rate']:.0f} GB/s of {row['peak']:g}"
        print(f"{row['model']} on {row['device']}: {token}{first}")
    print("\n| | rows | MAPE | median | mean of predicted / measured |\n|---|---|---|---|---|")
    report("a token, as shipped", np.array([(row["predicted"]["ms_per_token"], row["token_ms"]) for row in rows]))
    report("first token (128), as shipped", np.array([(row["predicted"]["ttft_ms"], row["first_ms"]) for row in rows if row["first_ms"] > 0]))
    for title, key in (("one share of the bandwidth", None), ("a rate of each device", "device")):
        told = []
        for row in rows:
            others = [o["rate"] / o["peak"] for o in rows if o["shape"] != row["shape"] and (key is None or o[key] == row[key])]
            if others:
                told.append((row["other"] + row["streamed"] / (np.median(others) * row["peak"]), row["token_ms"]))
        report(f"a token, {title}, models held out", np.array(told))
    rates = {name: float(np.median([row["rate"] for row in rows if row["device"] == name])) for name in sorted({row["device"] for row in rows})}
    shares = [rate / load_profile(name).units["npu"].bandwidth_gb_s.value for name, rate in rates.items()]
    print("\nmeasured: {" + ", ".join(f"{name}.npu: {rate:.3g}" for name, rate in rates.items()) + "}")
    print(f"share: {{npu: {np.median(shares):.2f}}}")


def predicted(model: Any, shape: Shape, graphs: tuple[ModelGraph, ModelGraph]) -> dict[str, float]:
    """Of the whole model, from two and from four layers."""
    two, four = (model.cost(graph, packed(graph)) for graph in graphs)
    return {key: linear(shape.layers, float(two[key].value[0]), float(four[key].value[0])) for key in METRICS}


def report(title: str, pairs: np.ndarray) -> None:
    ratio = pairs[:, 0] / pairs[:, 1]
    error = np.abs(ratio - 1)
    print(f"| {title} | {len(pairs)} | {100 * np.mean(error):.0f} % | {100 * np.median(error):.0f} % | {np.exp(np.mean(np.log(ratio))):.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    here = commands.add_parser("host")
    here.add_argument("--prompt", type=int, default=64)
    here.add_argument("--new", type=int, default=64)
    here.add_argument("--rounds", type=int, default=7)
    there = commands.add_parser("aihub")
    there.add_argument("--measurements", type=Path, required=True)
    args = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    if args.command == "host":
        host(args.prompt, args.new, args.rounds)
    else:
        aihub(args.measurements)


if __name__ == "__main__":
    main()
