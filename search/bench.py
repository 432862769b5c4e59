"""Runs an exported model: how long it takes to load and to run, how much memory, and whether it still gives the expected outputs. Prints JSON.

Needs Python 3.9 or later, numpy and the model's runtime, nothing else (ExecuTorch's Python runtime itself needs torch): copy the folder to the device and run

    python bench.py [--threads N] [--seconds S] [--provider cuda]

.onnx and .stages (a model with early exits, one .onnx file a stage) run in onnxruntime, .tflite in ai-edge-litert, .pte in executorch. With --against OTHER
both models take turns, so that a ratio of their latencies does not depend on what else the machine does. load_ms is from the start of a new process to the
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

WARM_UP = 5
FEWEST, MOST = 10, 2000
COMMAND = [str(Path(__file__).resolve())]
"""What starts this program again, behind the name of the interpreter."""


def import_runtime(names: tuple[tuple[str, str], ...]) -> list[Any]:
    """The modules of a runtime, each given with the package that it comes from."""
    found = []
    for module, package in names:
        try:
            found.append(importlib.import_module(module))
        except ImportError as error:
            raise ImportError(f"{module} cannot be imported ({error}); install it: pip install {package}") from error
    return found


def provider_named(name: str, present: list[str]) -> list[str]:
    """ONNX Runtime's execution providers for a short name such as ``cpu``, ``cuda``, ``coreml``, ``tensorrt``; what it lacks runs on the CPU."""
    short = {provider.replace("ExecutionProvider", "").lower(): provider for provider in present}
    if name.lower() not in short:
        raise ValueError(f"--provider {name!r} is not in this onnxruntime; present: {', '.join(sorted(short))}")
    return list(dict.fromkeys([short[name.lower()], "CPUExecutionProvider"]))


class OnnxModel:
    """A .onnx file; one that keeps a cache starts with an empty one."""

    imports = (("onnxruntime", "onnxruntime"),)

    def __init__(self, path: Path, threads: int, provider: str) -> None:
        (onnxruntime,) = import_runtime(self.imports)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = provider_named(provider, onnxruntime.get_available_providers())
        self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        halves = {True: np.float16, False: np.float32}
        self.inputs = [(i.name, [n if isinstance(n, int) else 0 for n in i.shape[1:]], halves["16" in i.type]) for i in self.session.get_inputs()]
        self.output = next(o.name for o in self.session.get_outputs() if not o.name.startswith("present."))
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self.provider = str(self.session.get_providers()[0])

    def run(self, inputs: dict[str, Any]) -> Any:
        """Logits."""
        feeds = {}
        for name, shape, kind in self.inputs:
            if name in inputs:
                feeds[name] = np.ascontiguousarray(inputs[name])
            else:
                feeds[name] = np.ones_like(inputs["input_ids"]) if name == "attention_mask" else np.zeros([len(next(iter(inputs.values()))), *shape], kind)
        return self.session.run([self.output], feeds)[0]


class StagedModel:
    """A model with early exits, one .onnx file a stage; each example leaves at the first stage that is sure of it.

    Attributes:
        stage: of the last run, ``[examples]``: where each example left, counted from 0.
        varies: what a run takes depends on its inputs, so that it is timed over many.
    """

    imports = OnnxModel.imports
    varies = True

    def __init__(self, path: Path, threads: int, provider: str) -> None:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["stages_version"] != 1:
            raise ValueError(f"{path.name} has stages_version {plan['stages_version']!r}; accepted: 1")
        self.threshold, self.rows = float(plan["threshold"]), plan["rows"]
        (onnxruntime,) = import_runtime(self.imports)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # The threads of a stage that has ended would be in the way of the next one.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        providers = provider_named(provider, onnxruntime.get_available_providers())
        self.sessions = [onnxruntime.InferenceSession(str(path.with_name(name)), options, providers=providers) for name in plan["stages"]]
        self.inputs = [[i.name for i in session.get_inputs()] for session in self.sessions]
        self.outputs = [[o.name for o in session.get_outputs()] for session in self.sessions]
        # What each stage leaves to those behind it.
        self.needed = [sorted({name for names in self.inputs[i + 1 :] for name in names}) for i in range(len(self.sessions))]
        self.stage = np.zeros(0, dtype=np.int64)
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self.provider = str(self.sessions[0].get_providers()[0])

    def run(self, inputs: dict[str, Any]) -> Any:
        """Logits of the stage at which each example leaves."""
        values = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        if "input_ids" in values and "attention_mask" not in values:
            values["attention_mask"] = np.ones_like(values["input_ids"])
        left = np.arange(len(next(iter(values.values()))))
        self.stage = np.full(len(left), len(self.sessions) - 1, dtype=np.int64)
        answers = None
        for i, session in enumerate(self.sessions):
            found = dict(zip(self.outputs[i], session.run(self.outputs[i], {name: values[name] for name in self.inputs[i]})))  # noqa: B905 - Python 3.9
            logits = found["logits"]
            answers = np.empty((len(left), *logits.shape[1:]), logits.dtype) if answers is None else answers
            if i == len(self.sessions) - 1:
                answers[left] = logits
                break
            sure = confidence(logits) >= self.threshold
            answers[left[sure]], self.stage[left[sure]] = logits[sure], i
            if sure.all():
                break
            values = {**values, **found}
            if sure.any():
                values = {name: self.kept(name, values[name], ~sure, inputs) for name in self.needed[i] if name in values}
                left = left[~sure]
        return answers

    def kept(self, name: str, value: Any, rows: Any, inputs: dict[str, Any]) -> Any:
        """Those rows of a tensor that belong to examples that have not left."""
        each = 1 if name in inputs or name == "attention_mask" else self.rows.get(name, 0)
        if not each:
            return value
        return value[rows] if each == 1 else value.reshape(len(rows), each, *value.shape[1:])[rows].reshape(-1, *value.shape[1:])


def confidence(logits: Any) -> Any:
    """The largest probability of each example."""
    return 1 / np.exp(logits - logits.max(axis=-1, keepdims=True)).sum(axis=-1)


class LitertModel:
    """A .tflite file; integer inputs and outputs are quantized and dequantized here."""

    imports = (("ai_edge_litert.interpreter", "ai-edge-litert"),)

    def __init__(self, path: Path, threads: int, provider: str) -> None:
        only_cpu(provider, path)
        (module,) = import_runtime(self.imports)
        self.interpreter = module.Interpreter(model_path=str(path), num_threads=threads or None)
        self.interpreter.allocate_tensors()
        signature = self.interpreter.get_signature_runner(min(self.interpreter.get_signature_list()))
        self.inputs: dict[str, Any] = signature.get_input_details()
        self.output: Any = next(iter(signature.get_output_details().values()))
        version = getattr(importlib.import_module("ai_edge_litert"), "__version__", "")
        self.runtime = f"litert {version}".strip()
        self.provider = "CPU (XNNPACK)"

    def run(self, inputs: dict[str, Any]) -> Any:
        """Logits."""
        feeds = {name: inputs[name] for name in self.inputs}
        fixed = next((int(d["shape"][0]) for d in self.inputs.values() if len(d["shape"]) and d["shape_signature"][0] != -1), None)
        return in_pieces(self._once, feeds, fixed)

    def _once(self, feeds: dict[str, Any]) -> Any:
        changed = False
        for name, value in feeds.items():
            details = self.inputs[name]
            if tuple(details["shape"]) != value.shape:
                self.interpreter.resize_tensor_input(details["index"], value.shape)
                details["shape"], changed = np.array(value.shape), True
        if changed:
            self.interpreter.allocate_tensors()
        for name, value in feeds.items():
            self.interpreter.set_tensor(self.inputs[name]["index"], to_stored(value, self.inputs[name]))
        self.interpreter.invoke()
        return from_stored(self.interpreter.get_tensor(self.output["index"]), self.output)


class ExecutorchModel:
    """A .pte file. Its Python runtime takes torch tensors."""

    # The second registers the kernels that read integer tables.
    imports = (("torch", "torch"), ("executorch.kernels.quantized", "executorch"), ("executorch.runtime", "executorch"))
    types = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "", "", "", "bool")

    def __init__(self, path: Path, threads: int, provider: str) -> None:
        only_cpu(provider, path)
        self.torch, _, runtime = import_runtime(self.imports)
        if threads:
            importlib.import_module("executorch.extension.pybindings.portable_lib")._unsafe_reset_threadpool(threads)  # noqa: SLF001 - there is no other way
        # The program must outlive its methods.
        self.program = runtime.Runtime.get().load_program(path)
        names, self.any_batch = (self.program.load_method(name).execute([])[0] for name in ("input_names", "any_batch"))
        self.method = self.program.load_method("forward")
        taken = [self.method.metadata.input_tensor_meta(i) for i in range(self.method.metadata.num_inputs())]
        self.inputs = [(name, self.types[int(one.dtype())]) for name, one in zip(names.split("\n"), taken)]  # noqa: B905 - Python 3.9
        self.bound = int(taken[0].sizes()[0])
        self.runtime = f"executorch {importlib.import_module('importlib.metadata').version('executorch')}"
        self.provider = "CPU (XNNPACK)"

    def run(self, inputs: dict[str, Any]) -> Any:
        """Logits."""
        feeds = {name: np.array(inputs[name], dtype=kind) for name, kind in self.inputs}
        count = len(next(iter(feeds.values())))
        return in_pieces(self._once, feeds, None if self.any_batch and count <= self.bound else self.bound)

    def _once(self, feeds: dict[str, Any]) -> Any:
        return self.method.execute([self.torch.from_numpy(value) for value in feeds.values()])[0].numpy()


def only_cpu(provider: str, path: Path) -> None:
    """Only ONNX Runtime has providers to choose from."""
    if provider.lower() != "cpu":
        raise ValueError(f"--provider {provider!r} is for .onnx; {path.name} runs as it was lowered")


def in_pieces(run: Callable[[dict[str, Any]], Any], inputs: dict[str, Any], size: int | None) -> Any:
    """``run`` on batches of exactly ``size`` (None: any), the last one filled up by repetition."""
    count = len(next(iter(inputs.values())))
    if size is None or count == size:
        return run(inputs)
    found = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        found.append(run({name: value[rows] for name, value in inputs.items()}))
    return np.concatenate(found)[:count]


def to_stored(value: Any, details: dict[str, Any]) -> Any:
    """A float array in the integers that a .tflite input takes."""
    scale, zero = details["quantization"]
    if not scale or not np.issubdtype(details["dtype"], np.integer):
        return np.ascontiguousarray(value, dtype=details["dtype"])
    limits = np.iinfo(details["dtype"])
    return np.clip(np.rint(value / scale) + zero, limits.min, limits.max).astype(details["dtype"])


def from_stored(value: Any, details: dict[str, Any]) -> Any:
    """The reverse, of an output."""
    scale, zero = details["quantization"]
    if not scale or not np.issubdtype(details["dtype"], np.integer):
        return value
    return (value.astype(np.float32) - np.float32(zero)) * np.float32(scale)


OPENERS: dict[str, Any] = {".onnx": OnnxModel, ".stages": StagedModel, ".tflite": LitertModel, ".pte": ExecutorchModel}


def open_model(path: Path, threads: int = 1, provider: str = "cpu") -> Any:
    """The model in the runtime of its suffix; ``run(inputs)`` gives logits, ``runtime`` and ``provider`` say what runs it."""
    if path.suffix not in OPENERS:
        raise ValueError(f"{path.name} has no known format; accepted: {', '.join(OPENERS)}")
    return OPENERS[path.suffix](path, threads, provider)


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


def load_figures(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """``load_ms`` (a new process until its first result), ``session_ms`` (of it, opening the model) and ``peak_memory_bytes``."""
    safe = ["-P"] if getattr(sys.flags, "safe_path", False) else []
    options = ["--model", str(path), "--examples", str(args.examples), "--batch", str(args.batch), "--threads", str(args.threads)]
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
    loads = [{} if args.brief else load_figures(path, args) for path in paths]
    models = [open_model(path, args.threads, args.provider) for path in paths]
    # Where a model takes longer for some inputs than for others, all models run on all of them.
    count = len(expected) if any(getattr(model, "varies", False) for model in models) else 1
    batches = [batch_of({name: np.roll(value, -i * args.batch, axis=0) for name, value in inputs.items()}, args.batch) for i in range(count)]
    times = timed([in_turn(model.run, batches) for model in models], args.seconds, count)
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
