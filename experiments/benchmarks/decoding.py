"""How fast does a small language model tell stories in ONNX Runtime, and how well, at 32, 8, 4, 3 and 2 bits a weight?

    python experiments/benchmarks/decoding.py [--threads 2] [--new 128] [--rounds 6]

stories260k, exported with its cache. Every variant continues the same prompt of 16 tokens, greedily, batch 1. The variants take turns in each of five
processes; tokens a second are medians over the processes, ratios to fp32 medians of the ratio within a process, each with its range. Perplexity on `report`
is of the same files, with an empty cache.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from compressors.targets.onnx_generation import Generator  # noqa: E402 - found beside this file

PROCESSES = 5
PROMPT = 16
FLOATS = {"activation_bits": "float"}
VARIANTS: dict[str, dict[str, Any]] = {
    "fp32": {},
    "16": {"weight_bits": 16},
    "8, channel": {"weight_bits": 8, **FLOATS},
    "8, channel, dynamic": {"weight_bits": 8, "activation_bits": 8, "mode": "dynamic"},
    **{f"{bits}, group 32": {"weight_bits": bits, "granularity": 32, **FLOATS} for bits in (8, 4, 3, 2)},
    "4, group 32, dynamic": {"weight_bits": 4, "granularity": 32, "activation_bits": 8, "mode": "dynamic"},
    **{f"{bits}, channel": {"weight_bits": bits, **FLOATS} for bits in (4, 3, 2)},
}
"""Bits of weights and granularity of their scales; activations are floats unless ranges are taken at run time."""


def make(folder: Path, variants: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, dict[str, Any]], list[int]]:
    """Path, bytes and perplexity of each variant, and a prompt."""
    from compressors.errors import ComparetoError
    from compressors.pipeline import compress
    from compressors.targets import target_named
    from search.experiment import Experiment
    from search.loading import load_experiment
    from search.quiet import quiet_libraries

    quiet_libraries()
    loaded = load_experiment(Experiment.load(ROOT / "experiments/stories260k.yaml"))
    model, task, target = loaded.model.eval(), loaded.task, target_named("onnxruntime")
    made: dict[str, dict[str, Any]] = {}
    for name, settings in variants.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                smaller = compress(model, [{"quantize": settings}] if settings else [], task.example_inputs, task)
                path = target.export(smaller, task.example_inputs, folder / str(len(made)))
        except ComparetoError as error:
            print(f"{name}: {error}")
            continue
        perplexity = task.metrics(target.load(path, 2), "report")["perplexity"]
        made[name] = {"path": str(path), "bytes": target.file_bytes(path), "file": path.stat().st_size, "perplexity": perplexity}
        print(f"{name}: {made[name]['bytes']:,} bytes, perplexity {perplexity.value:.3f}", flush=True)
    return made, next(iter(task.batches("report"))).inputs["input_ids"][0, :PROMPT].tolist()


def take_turns(paths: list[Path], prompt: list[int], threads: int, new: int, rounds: int) -> list[dict[str, float]]:
    """Medians over rounds; the first round warms up."""
    generators = [Generator(path, threads) for path in paths]
    found: list[list[dict[str, float]]] = [[] for _ in paths]
    for number in range(rounds + 1):
        for generator, own in zip(generators, found, strict=True):
            statistics = generator.generate({"input_ids": np.array([prompt])}, new).statistics()
            if number:
                own.append(statistics)
    return [{key: float(np.median([one[key] for one in own])) for key in own[0]} for own in found]


def table(made: Mapping[str, Mapping[str, Any]], runs: list[list[dict[str, float]]]) -> str:
    """One line a variant."""
    lines = [
        "| bits of weights | bytes of weights | perplexity (90 %) | first token, ms | a token, ms | tokens/s | ratio to fp32 |",
        "|---|---|---|---|---|---|---|",
    ]
    for i, (name, one) in enumerate(made.items()):
        first, token, rate = (np.array([run[i][key] for run in runs]) for key in ("first_token_ms", "token_ms", "tokens_per_second"))
        ratio = rate / np.array([run[0]["tokens_per_second"] for run in runs])
        perplexity = f"{one['perplexity'].value:.3f} ({one['perplexity'].low:.3f}-{one['perplexity'].high:.3f})"
        rates = f"{np.median(rate):,.0f} ({rate.min():,.0f}-{rate.max():,.0f})"
        ratios = f"{np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f})"
        lines.append(f"| {name} | {one['bytes']:,} | {perplexity} | {np.median(first):.2f} | {np.median(token):.3f} | {rates} | {ratios} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new", type=int, default=128, help="tokens to tell (default: 128)")
    parser.add_argument("--rounds", type=int, default=6, help="in each process (default: 6)")
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="variants; fp32 is always one")
    parser.add_argument("--turns", nargs="+", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prompt", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turns:
        print(json.dumps(take_turns(args.turns, args.prompt, args.threads, args.new, args.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        made, prompt = make(Path(folder), {name: settings for name, settings in VARIANTS.items() if name in {"fp32", *args.only}})
        options = ["--threads", str(args.threads), "--new", str(args.new), "--rounds", str(args.rounds), "--prompt", json.dumps(prompt)]
        command = [sys.executable, __file__, *options, "--turns", *(one["path"] for one in made.values())]
        runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout) for _ in range(PROCESSES)]
    print(table(made, runs))


if __name__ == "__main__":
    main()
