"""A small language model at few bits a weight: perplexity and stored bytes, one scale a channel against groups of 32.

    python experiments/benchmarks/low_bits.py [--split report] [--rounding nearest gptq] [--asymmetric]

stories260k, weights only (activations stay float), embeddings too. Perplexity through ONNX Runtime on the exported file, with a 90 % interval; the
difference in loss (nats a token) to the uncompressed model is paired. Groups are formed where 32 divides the inputs of a matrix: not for the 172 of its
feed-forwards.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT)]

from compressors.pipeline import compress  # noqa: E402
from compressors.targets.onnx_session import OnnxSession  # noqa: E402
from evaluators.tasks.array_task import module_predict  # noqa: E402
from evaluators.tasks.intervals import paired_difference  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--split", default="report")
    parser.add_argument("--rounding", nargs="+", default=["nearest"])
    parser.add_argument("--asymmetric", action="store_true", help="weights with zero points")
    args = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    p = prepare(Experiment.load(ROOT / "experiments" / "stories260k.yaml"), Cache(), lambda line: print(line, file=sys.stderr))
    base = p.task.per_example(module_predict(p.model), args.split)
    whole = 0
    print("| bits | scales | rounding | stored bytes | of fp32's | perplexity | loss, nats a token (paired) |\n|---|---|---|---|---|---|---|")
    for bits, granularity, rounding in [(32, "channel", "nearest"), *((b, g, r) for b in (8, 4, 3, 2) for g in ("channel", 32) for r in args.rounding)]:
        settings: dict[str, Any] = {"weight_bits": bits, "activation_bits": "float", "granularity": granularity, "rounding": rounding}
        settings["symmetric"] = not args.asymmetric
        model = compress(p.model, [{"quantize": settings}] if bits < 32 else [], p.task.example_inputs, p.task)
        with tempfile.TemporaryDirectory() as folder:
            path = p.target.export(model, p.task.example_inputs, Path(folder))
            stored = p.target.file_bytes(path)
            values = p.task.per_example(OnnxSession(path, 2), args.split)
        whole = whole or stored
        perplexity, d = p.task.summarise(values)["perplexity"], paired_difference(values["loss"], base["loss"])
        quality = f"{perplexity.value:.3f} ({perplexity.low:.3f}-{perplexity.high:.3f}) | {d.value:+.4f} ({d.low:+.4f} to {d.high:+.4f})"
        print(f"| {bits} | {granularity} | {rounding} | {stored:,} | {stored / whole:.3f} | {quality} |", flush=True)


if __name__ == "__main__":
    main()
