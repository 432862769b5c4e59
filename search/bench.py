"""Runs an exported model: how long it takes to load and to run, how much memory, and whether it still gives the expected outputs. Prints JSON.

Needs Python 3.9 or later, numpy and the model's runtime, nothing else (ExecuTorch's Python runtime itself needs torch): copy the folder to the device and run

    python bench.py [--threads N] [--seconds S] [--provider cuda]

.onnx and .stages (a model with early exits, one .onnx file a stage) run in onnxruntime, .tflite in ai-edge-litert, .pte in executorch. With --against OTHER
both models take turns, so that a ratio of their latencies does not depend on what else the machine does; --against-examples are its inputs, where it takes
others. load_ms is from the start of a new process to the
first result, Python and the runtime included; peak_memory_bytes is of that process after a few more runs. latency_ms has a mean over the examples, of the
median of each, where what a run takes depends on its input.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import itertools
import json
import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

if __package__:
    from search.bench_models import OPENERS, import_runtime, only_cpu, open_model
else:
    # A script of its own, with its other half beside it.
    sys.path.append(str(Path(__file__).resolve().parent))
    from bench_models import OPENERS, import_runtime, only_cpu, open_model  # type: ignore[import-not-found, no-redef]

__all__ = ["COMMAND", "OPENERS", "in_turn", "main", "measure", "only_cpu", "open_model", "read_examples", "statistics", "timed", "typical"]

WARM_UP = 5
FEWEST, MOST = 10, 2000
COMMAND = [str(Path(__file__).resolve())]
"""What starts this program again, behind the name of the interpreter."""


def read_examples(path: Path) -> tuple[dict[str, Any], Any]:
    """Inputs, each ``[examples, ...]``, and the logits that are expected."""
    with np.load(path, allow_pickle=False) as stored:
        return {name[len("input.") :]: stored[name] for name in stored.files if name.startswith("input.")}, stored["logits"]


def batch_of(inputs: dict[str, Any], size: int) -> dict[str, Any]:
    """So many examples, repeated where there are fewer."""
    return {name: np.resize(value, (size, *value.shape[1:])) for name, value in inputs.items()}


def check(model: Any, inputs: dict[str, Any], expected: Any) -> dict[str, Any]:
    """Largest difference to the expected outputs, absolute and relative to their range, and how many examples keep their best class."""
    found = model.run(inputs)
    if found.shape != expected.shape:
        return {"examples": len(expected), "shape": list(found.shape), "expected_shape": list(expected.shape), "relative_difference": None}
    difference = float(np.abs(found - expected).max())
    return {
        "examples": len(expected),
        "largest_difference": difference if np.isfinite(difference) else None,
        "relative_difference": difference / (float(np.ptp(expected)) or 1.0) if np.isfinite(difference) else None,
        "same_best_class": float((found.argmax(-1) == expected.argmax(-1)).mean()),
    }


def timed(runs: list[Callable[[], Any]], seconds: float, fewest: int = 0) -> list[list[float]]:
    """Milliseconds of each call, at least ``fewest`` of each; the callables take turns."""
    for _ in range(WARM_UP):
        for run in runs:
            run()
    taken: list[list[float]] = [[] for _ in runs]
    end = time.perf_counter() + seconds
    while len(taken[0]) < max(FEWEST, fewest) or (time.perf_counter() < end and len(taken[0]) < MOST):
        for run, times in zip(runs, taken):  # noqa: B905 - Python 3.9
            start = time.perf_counter()
            run()
            times.append(1e3 * (time.perf_counter() - start))
    return taken


def statistics(times: list[float], inputs: int = 1) -> dict[str, float]:
    """Of milliseconds; ``mean`` where calls took turns with so many inputs: over inputs, of the median of each."""
    found = {"median": float(np.median(times)), "min": float(np.min(times)), "p90": float(np.quantile(times, 0.9)), "runs": len(times)}
    return found if inputs == 1 else {**found, "mean": float(np.mean([np.median(times[i::inputs]) for i in range(inputs)]))}


def in_turn(run: Callable[[Any], Any], batches: list[Any]) -> Callable[[], Any]:
    """Runs on one batch after the other, and then from the first again."""
    turn = itertools.cycle(batches)
    return lambda: run(next(turn))


def peak_memory_bytes() -> int | None:
    """Most resident memory that this process has had; None where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Linux's ru_maxrss starts at what the parent had when it started this process.
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        return 1024 * int(found.group(1)) if found else None
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else 1024 * peak


def own_output() -> BinaryIO:
    """Standard output for us alone: what a runtime prints goes to standard error, so that it does not end up among our lines and frames."""
    sys.stdout.flush()
    mine = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return mine


def write_line(sink: BinaryIO, data: Any, indent: int | None = None) -> None:
    """One JSON document."""
    sink.write(json.dumps(data, indent=indent).encode() + b"\n")
    sink.flush()


def first_result(sink: BinaryIO, path: Path, batch: dict[str, Any], threads: int, provider: str) -> None:
    """In a new process: says how long it took to make the model ready as soon as its first result is there, then its peak memory."""
    import_runtime(OPENERS[path.suffix].imports if path.suffix in OPENERS else ())
    start = time.perf_counter()
    model = open_model(path, threads, provider)
    ready = 1e3 * (time.perf_counter() - start)
    model.run(batch)
    write_line(sink, {"session_ms": ready})
    for _ in range(WARM_UP):
        model.run(batch)
    write_line(sink, {"peak_memory_bytes": peak_memory_bytes()})


def load_figures(path: Path, examples: Path, args: argparse.Namespace) -> dict[str, Any]:
    """``load_ms`` (a new process until its first result), ``session_ms`` (of it, opening the model) and ``peak_memory_bytes``."""
    safe = ["-P"] if getattr(sys.flags, "safe_path", False) else []
    options = ["--model", str(path), "--examples", str(examples), "--batch", str(args.batch), "--threads", str(args.threads)]
    command = [sys.executable, *safe, *COMMAND, *options, "--provider", args.provider, "--first"]
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:  # noqa: S603 - ourselves; no shell
            assert process.stdout is not None
            line = process.stdout.readline()
            load = 1e3 * (time.perf_counter() - start)
            rest = process.stdout.read()
        if process.returncode:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip().splitlines()
            raise RuntimeError(said[-1] if said else f"exit code {process.returncode}")
    return {"load_ms": load, **json.loads(line), **json.loads(rest)}


def answer(sink: BinaryIO, model: Any) -> None:
    """Serves a parent process: a frame (length, then npz) of inputs in, a frame of logits out, until an empty frame or the end."""
    source = sys.stdin.buffer
    while True:
        header = source.read(8)
        size = struct.unpack("<q", header)[0] if len(header) == 8 else 0
        if not size:
            return
        with np.load(io.BytesIO(source.read(size)), allow_pickle=False) as stored:
            inputs = {name: stored[name] for name in stored.files}
        buffer = io.BytesIO()
        outputs = {"logits": model.run(inputs)}
        if hasattr(model, "stage"):
            outputs["stage"] = model.stage
        np.savez(buffer, **outputs)
        sink.write(struct.pack("<q", buffer.tell()) + buffer.getvalue())
        sink.flush()


def default_model(folder: Path) -> Path:
    """The model beside this file: what ``signature.json`` names, else the first file that can be run."""
    signature = folder / "signature.json"
    if signature.is_file():
        return folder / str(json.loads(signature.read_text(encoding="utf-8"))["model"])
    return next((path for path in sorted(folder.iterdir()) if path.suffix in OPENERS), folder / "model.onnx")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """What is printed."""
    inputs, expected = read_examples(args.examples)
    paths = [args.model, *([args.against] if args.against else [])]
    examples = [args.examples, args.against_examples or args.examples]
    loads = [{} if args.brief else load_figures(path, examples[i], args) for i, path in enumerate(paths)]
    models = [open_model(path, args.threads, args.provider, alone=len(paths) == 1) for path in paths]
    # Where a model takes longer for some inputs than for others, all models run on all of them.
    count = len(expected) if any(getattr(model, "varies", False) for model in models) else 1
    given = [inputs, read_examples(args.against_examples)[0] if args.against_examples else inputs]
    batches = [[batch_of({name: np.roll(value, -i * args.batch, axis=0) for name, value in one.items()}, args.batch) for i in range(count)] for one in given]
    times = timed([in_turn(model.run, batches[i]) for i, model in enumerate(models)], args.seconds, count)
    document: dict[str, Any] = {
        "model": args.model.name,
        "sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "runtime": models[0].runtime,
        "provider": models[0].provider,
        "python": platform.python_version(),
        "machine": f"{platform.machine()} {platform.system()} {platform.node()}",
        "processors": os.cpu_count(),
        "threads": args.threads,
        "batch": args.batch,
        "latency_ms": statistics(times[0], count),
        **loads[0],
        "outputs": check(models[0], inputs, expected),
    }
    if args.against:
        against = statistics(times[1], count)
        document["against"] = {"latency_ms": against, **loads[1]}
        document["ratio"] = typical(document["latency_ms"]) / typical(against)
    return document


def typical(latency: dict[str, float]) -> float:
    """The one number of ``statistics``: the mean where inputs take different times, else the median."""
    return latency["mean"] if "mean" in latency else latency["median"]


def main() -> None:
    """See the module."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Latency, load time, memory and correctness of the exported model; prints JSON.")
    parser.add_argument("--model", type=Path, help="default: the model beside this file")
    parser.add_argument("--examples", type=Path, default=here / "examples.npz", help="default: examples.npz beside this file")
    parser.add_argument("--batch", type=int, default=1, help="examples at a time when timing (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="default: 1; 0 is the runtime's choice")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long to time (default: 3)")
    parser.add_argument("--provider", default="cpu", help="ONNX Runtime's execution provider, such as cuda or coreml (default: cpu)")
    parser.add_argument("--against", type=Path, help="another model to take turns with")
    parser.add_argument("--against-examples", type=Path, help="its inputs, where it takes others than the model does")
    parser.add_argument("--brief", action="store_true", help="latency and outputs only: neither load time nor memory")
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.model = args.model or default_model(here)
    sink = own_output()
    try:
        if args.answer:
            answer(sink, open_model(args.model, args.threads, args.provider))
        elif args.first:
            first_result(sink, args.model, batch_of(read_examples(args.examples)[0], args.batch), args.threads, args.provider)
        else:
            write_line(sink, measure(args), indent=1)
    except (ImportError, ValueError, OSError, RuntimeError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
