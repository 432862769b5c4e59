"""From raw inputs to outputs, timed: decoding, normalising or tokenising included. A program of its own, so that nothing else has been imported.

python -m search.verifying.end_to_end ARTIFACT [--against MODEL] [--threads N] [--seconds S] [--batch N]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from compressors.errors import UserError
from search.bench import in_turn, read_examples, statistics, timed
from search.checksums import EXAMPLES, SIGNATURE
from search.load_artifact import Predictor
from search.raw_files import read_raw
from search.raw_inputs import native_signature

__all__ = ["main"]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Latency from raw inputs, and how far the outputs are from those of the examples that they became.

    None of language models, whose examples begin anywhere in a text.
    """
    folder: Path = args.folder
    signature = json.loads((folder / SIGNATURE).read_text(encoding="utf-8"))
    raw = read_raw(folder)
    paths = [folder / signature["model"], *([args.against] if args.against else [])]
    signatures = [signature, native_signature(signature)]
    models = [Predictor(folder, signatures[i], path, threads=args.threads, provider=args.provider, alone=len(paths) == 1) for i, path in enumerate(paths)]
    difference = None
    if signature["task"] != "causal-lm":
        inputs, expected = read_examples(folder / EXAMPLES)
        found = models[0](raw)["logits"]
        # Not the expected outputs: ranges that are found at run time, and exits, depend on what an example is run together with.
        prepared = models[0]({name: value[: len(raw)] for name, value in inputs.items()})["logits"]
        difference = float(np.abs(found - prepared).max()) / (float(np.ptp(expected)) or 1.0)
    # What a model with early exits takes depends on its inputs.
    count = len(raw) if "exits" in signature else 1
    batches = [[raw[(i * args.batch + j) % len(raw)] for j in range(args.batch)] for i in range(count)]
    times = timed([in_turn(model, batches) for model in models], args.seconds, count)
    document: dict[str, Any] = {"end_to_end_ms": statistics(times[0], count), "relative_difference": difference, "torch": "torch" in sys.modules}
    return {**document, "against": {"end_to_end_ms": statistics(times[1], count)}} if args.against else document


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Latency from raw inputs to outputs; prints JSON.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--provider", default="cpu")
    try:
        print(json.dumps(measure(parser.parse_args())))
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
