"""Runs an exported ONNX model: latency, and whether it still gives the outputs that it was exported with. Prints JSON.

Needs Python 3.9 or later, numpy and onnxruntime, nothing else: copy the folder to the device and run

    python bench.py [--threads N] [--seconds S]

With --against OTHER.onnx both models take turns, so that a ratio of their latencies does not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import struct
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

WARM_UP = 5
FEWEST, MOST = 10, 2000


def session(path: Path, threads: int) -> Any:
    """The model on the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def fed(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs that the model reads."""
    return {i.name: np.ascontiguousarray(inputs[i.name]) for i in model.get_inputs()}


def read_examples(path: Path) -> tuple[dict[str, Any], Any]:
    """Inputs, each ``[examples, ...]``, and the logits that are expected."""
    with np.load(path, allow_pickle=False) as stored:
        return {name[len("input.") :]: stored[name] for name in stored.files if name.startswith("input.")}, stored["logits"]


def check(model: Any, inputs: dict[str, Any], expected: Any) -> dict[str, Any]:
    """Largest difference to the expected outputs, absolute and relative to their range, and how many examples keep their best class."""
    found = model.run(None, fed(model, inputs))[0]
    if found.shape != expected.shape:
        return {"examples": len(expected), "shape": list(found.shape), "expected_shape": list(expected.shape), "relative_difference": None}
    difference = float(np.abs(found - expected).max())
    return {
        "examples": len(expected),
        "largest_difference": difference,
        "relative_difference": difference / (float(np.ptp(expected)) or 1.0) if np.isfinite(difference) else None,
        "same_best_class": float((found.argmax(-1) == expected.argmax(-1)).mean()),
    }


def timed(models: list[Any], inputs: dict[str, Any], seconds: float) -> list[list[float]]:
    """Milliseconds of each run of each model; the models take turns."""
    feeds = [fed(model, inputs) for model in models]
    for _ in range(WARM_UP):
        for model, feed in zip(models, feeds, strict=False):
            model.run(None, feed)
    taken: list[list[float]] = [[] for _ in models]
    end = time.perf_counter() + seconds
    while len(taken[0]) < FEWEST or (time.perf_counter() < end and len(taken[0]) < MOST):
        for model, feed, times in zip(models, feeds, taken, strict=False):
            start = time.perf_counter()
            model.run(None, feed)
            times.append(1e3 * (time.perf_counter() - start))
    return taken


def statistics(times: list[float]) -> dict[str, float]:
    """Of milliseconds."""
    return {"median": float(np.median(times)), "min": float(np.min(times)), "p90": float(np.quantile(times, 0.9)), "runs": len(times)}


def answer(model: Any) -> None:
    """Serves a parent process: a frame (length, then npz) of inputs in, a frame of logits out, until an empty frame or the end."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        header = source.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else 0
        if not size:
            return
        with np.load(io.BytesIO(source.read(size)), allow_pickle=False) as stored:
            inputs = {name: stored[name] for name in stored.files}
        buffer = io.BytesIO()
        np.savez(buffer, logits=model.run(None, fed(model, inputs))[0])
        sink.write(struct.pack("<q", buffer.tell()) + buffer.getvalue())
        sink.flush()


def main() -> None:
    """See the module."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Latency and correctness of the exported model; prints JSON.")
    parser.add_argument("--model", type=Path, default=here / "model.onnx", help="default: model.onnx beside this file")
    parser.add_argument("--examples", type=Path, default=here / "examples.npz", help="default: examples.npz beside this file")
    parser.add_argument("--batch", type=int, default=1, help="examples at a time when timing (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1; 0 is the runtime's choice")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to time (default: 3)")
    parser.add_argument("--against", type=Path, help="another model to take turns with")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    model = session(args.model, args.threads)
    if args.answer:
        answer(model)
        return
    inputs, expected = read_examples(args.examples)
    batch = {name: np.resize(value, (args.batch, *value.shape[1:])) for name, value in inputs.items()}
    models = [model, *([session(args.against, args.threads)] if args.against else [])]
    times = timed(models, batch, args.seconds)
    document = {
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "machine": f"{platform.machine()} {platform.system()} {platform.node()}",
        "threads": args.threads,
        "batch": args.batch,
        "latency_ms": statistics(times[0]),
        "outputs": check(model, inputs, expected),
    }
    if args.against:
        document["against_latency_ms"] = statistics(times[1])
        document["ratio"] = float(np.median(times[0]) / np.median(times[1]))
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
