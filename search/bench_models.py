"""The models that ``bench.py`` runs, each in the runtime of its file's suffix. Needs Python 3.9 or later, numpy and that runtime, nothing else.

.onnx and .stages (a model with early exits, one .onnx file a stage) run in onnxruntime, .tflite in ai-edge-litert, .pte in executorch.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["OPENERS", "import_runtime", "only_cpu", "open_model"]


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


def onnx_options(onnxruntime: Any, threads: int, alone: bool) -> Any:
    """Of a session. Threads of one that is not alone stop when a run ends: they would spin, waiting for the next one, while another session runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if not alone:
        options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


class OnnxModel:
    """A .onnx file; one that keeps a cache starts with an empty one."""

    imports = (("onnxruntime", "onnxruntime"),)

    def __init__(self, path: Path, threads: int, provider: str, alone: bool) -> None:
        (onnxruntime,) = import_runtime(self.imports)
        options = onnx_options(onnxruntime, threads, alone)
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

    def __init__(self, path: Path, threads: int, provider: str, _alone: bool) -> None:
        plan = json.loads(path.read_text(encoding="utf-8"))
        if plan["stages_version"] != 2:
            raise ValueError(f"{path.name} has stages_version {plan['stages_version']!r}; accepted: 2")
        self.threshold, self.rows = float(plan["threshold"]), plan["rows"]
        (onnxruntime,) = import_runtime(self.imports)
        # A stage is never alone: the next one follows.
        options = onnx_options(onnxruntime, threads, alone=False)
        providers = provider_named(provider, onnxruntime.get_available_providers())
        self.sessions = [onnxruntime.InferenceSession(str(path.with_name(name)), options, providers=providers) for name in plan["stages"]]
        self.inputs = [[i.name for i in session.get_inputs()] for session in self.sessions]
        self.outputs = [[o.name for o in session.get_outputs()] for session in self.sessions]
        self.places = [[names.index(name) if name in names else -1 for name in ("logits", "confidence")] for names in self.outputs]
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
        count = len(next(iter(values.values())))
        if count == 1:
            return self.of_one(values)
        left = np.arange(count)
        self.stage = np.full(len(left), len(self.sessions) - 1, dtype=np.int64)
        answers = None
        for i, session in enumerate(self.sessions):
            found = dict(zip(self.outputs[i], session.run(self.outputs[i], {name: values[name] for name in self.inputs[i]})))  # noqa: B905 - Python 3.9
            logits = found["logits"]
            answers = np.empty((len(left), *logits.shape[1:]), logits.dtype) if answers is None else answers
            if i == len(self.sessions) - 1:
                answers[left] = logits
                break
            sure = found["confidence"] >= self.threshold
            answers[left[sure]], self.stage[left[sure]] = logits[sure], i
            if sure.all():
                break
            values = {**values, **found}
            if sure.any():
                values = {name: self.kept(name, values[name], ~sure, inputs) for name in self.needed[i] if name in values}
                left = left[~sure]
        return answers

    def of_one(self, values: dict[str, Any]) -> Any:
        """Logits of one example: there is nothing to sort out, which would take longer than a kernel."""
        for i, session in enumerate(self.sessions):
            found = session.run(self.outputs[i], {name: values[name] for name in self.inputs[i]})
            logits, confidence = self.places[i]
            if confidence < 0 or found[confidence][0] >= self.threshold:
                break
            values.update(zip(self.outputs[i], found))  # noqa: B905 - Python 3.9
        self.stage = np.array([i])
        return found[logits]

    def kept(self, name: str, value: Any, rows: Any, inputs: dict[str, Any]) -> Any:
        """Those rows of a tensor that belong to examples that have not left."""
        each = 1 if name in inputs or name == "attention_mask" else self.rows.get(name, 0)
        if not each:
            return value
        return value[rows] if each == 1 else value.reshape(len(rows), each, *value.shape[1:])[rows].reshape(-1, *value.shape[1:])


class LitertModel:
    """A .tflite file; integer inputs and outputs are quantized and dequantized here."""

    imports = (("ai_edge_litert.interpreter", "ai-edge-litert"),)

    def __init__(self, path: Path, threads: int, provider: str, _alone: bool) -> None:
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

    def __init__(self, path: Path, threads: int, provider: str, _alone: bool) -> None:
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


def open_model(path: Path, threads: int = 1, provider: str = "cpu", *, alone: bool = True) -> Any:
    """The model in the runtime of its suffix; ``run(inputs)`` gives logits, ``runtime`` and ``provider`` say what runs it.

    Not ``alone`` are models that take turns in one process; of ONNX Runtime each then leaves the processor to the others between its runs.
    """
    if path.suffix not in OPENERS:
        raise ValueError(f"{path.name} has no known format; accepted: {', '.join(OPENERS)}")
    return OPENERS[path.suffix](path, threads, provider, alone)
