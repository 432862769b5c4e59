"""Peak memory as it is predicted for this host, against the resident set of a fresh process that runs the file in ONNX Runtime.

    python experiments/benchmarks/memory.py [MODEL ...] [--precisions fp32 int8] [--processes 3] [--json FILE]

ResNet-20 (1x3x32x32), ResNet-50 and MobileNetV2 (1x3x224x224), MiniLM-L6 (1x128), ViT-tiny (1x3x224x224) and a GPT-2 of six layers (1x128), random weights,
each as fp32 and as the file that ``quantize: {}`` (language models: ``mode: dynamic``) makes. The process imports numpy and ONNX Runtime, opens the session
with one thread and runs it three times; what counts is ``VmHWM`` at the end, the median over the processes. ``session`` and ``resident`` are ``VmRSS`` after
opening and after running.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "experiments")]

from compressors.graph import trace  # noqa: E402 - found beside this file
from compressors.pipeline import compress  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from evaluators.devices import device_named  # noqa: E402

CHILD = """
import json, re, sys
import numpy as np
def status(key):
    return 1024 * int(re.search(key + r":\\s*(\\d+) kB", open("/proc/self/status").read()).group(1))
import onnxruntime
found = {"import": status("VmRSS")}
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 3
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
found["session"] = status("VmRSS")
with np.load(sys.argv[2]) as stored:
    inputs = {name: stored[name] for name in stored.files}
for missing in session.get_inputs():
    # The empty cache of a language model.
    if missing.name not in inputs:
        inputs[missing.name] = np.zeros([size if isinstance(size, int) else int("batch" in size) for size in missing.shape], np.float32)
for _ in range(3):
    session.run(None, inputs)
found["resident"] = status("VmRSS")
found["peak"] = status("VmHWM")
print(json.dumps(found))
"""


def image(size: int) -> dict[str, torch.Tensor]:
    return {"pixel_values": torch.randn(1, 3, size, size)}


def words(vocabulary: int) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.randint(0, vocabulary, (1, 128)), "attention_mask": torch.ones(1, 128, dtype=torch.int64)}


def resnet20() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    import resnet20 as source

    return source.resnet20(), {"image": torch.randn(1, 3, 32, 32)}


def resnet50() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(ResNetConfig()), image(224)


def mobilenetv2() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

    return MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000)), image(224)


def minilm() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
    return BertForSequenceClassification(config), words(30522)


def vit_tiny() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(ViTConfig(hidden_size=192, num_attention_heads=3, intermediate_size=768)), image(224)


def gpt2() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=384, n_layer=6, n_head=6, vocab_size=16384, use_cache=False)), words(16384)


MODELS: dict[str, Callable[[], tuple[nn.Module, dict[str, torch.Tensor]]]] = {
    "resnet20": resnet20,
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
    "minilm": minilm,
    "vit_tiny": vit_tiny,
    "gpt2": gpt2,
}
DYNAMIC = ("minilm", "gpt2")


def measured(path: Path, inputs: Mapping[str, np.ndarray], folder: Path, processes: int) -> dict[str, float]:
    """Bytes, medians over the processes."""
    stored = folder / "inputs.npz"
    np.savez(stored, **inputs)
    command = [sys.executable, "-c", CHILD, str(path), str(stored)]
    runs = [json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1]) for _ in range(processes)]
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def rows(name: str, folder: Path, precisions: Sequence[str], processes: int) -> list[dict[str, Any]]:
    """One for each precision: what was measured and what is predicted, bytes."""
    torch.manual_seed(0)
    model, inputs = MODELS[name]()
    model.eval()
    target, device = target_named("onnxruntime"), device_named("x86-server-core/onnxruntime")
    found = []
    quantized = {"fp32": [], "int8": [{"quantize": {"mode": "dynamic"} if name in DYNAMIC else {}}]}
    for kind in precisions:
        steps = quantized[kind]
        graph = trace(model, inputs)
        edits = Recipe.from_plain(steps).plan(graph, {})
        shapes = edits[-1].shapes(graph) if edits else graph.baseline()
        predicted = float(device.cost(graph, shapes)["peak_memory_bytes"].value[0])
        path = target.export(compress(model, steps, inputs) if steps else model, inputs, folder / f"{name}-{kind}")
        real = measured(path, {k: v.numpy() for k, v in inputs.items()}, folder, processes)
        found.append({"model": name, "kind": kind, "file": sum(f.stat().st_size for f in path.parent.iterdir()), **real, "predicted": predicted})
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "int8"), default=["fp32", "int8"])
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as folder:
        print("| model | precision | file MB | import | session | resident | peak | predicted | error |")
        print("|---|---|---|---|---|---|---|---|---|")
        for name in args.models or MODELS:
            for row in rows(name, Path(folder), args.precisions, args.processes):
                found.append(row)
                cells = [f"{row[key] / 1e6:.1f}" for key in ("file", "import", "session", "resident", "peak", "predicted")]
                print(f"| {row['model']} | {row['kind']} | {' | '.join(cells)} | {row['predicted'] / row['peak'] - 1:+.1%} |", flush=True)
    for kind in args.precisions:
        errors = [abs(row["predicted"] / row["peak"] - 1) for row in found if row["kind"] == kind]
        print(f"\n{kind}: mean error {np.mean(errors):.1%}, largest {max(errors):.1%} of {len(errors)} models")
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
