"""Our 8-bit files against those of ONNX Runtime's own quantizers: latency, bytes, fused kernels, accuracy.

    python experiments/benchmarks/against_onnxruntime.py [resnet50] [minilm] [resnet20] [--threads 2] [--seconds 3]

ResNet-50 (random weights, 1x3x224x224): fp32, ours (static), ``quantize_static`` (QDQ, per channel, reduced range, its own preprocessing). MiniLM fine-tuned
on CLINC150 (1x128 for latency, 32 tokens for accuracy): fp32, ours (dynamic), ``quantize_dynamic``. ResNet-20 on CIFAR-10: fp32, ours (static),
``quantize_static``. Models take turns in each of five processes; a ratio is the median over the processes with its range. Accuracy on `report`, paired.
"""

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from interleaved import compare, said  # noqa: E402 - found beside this file

from compressors.pipeline import compress  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from compressors.targets.onnx_session import OnnxSession, optimised_operators  # noqa: E402
from evaluators.tasks.intervals import paired_difference  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import Prepared, prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

Arrays = Mapping[str, np.ndarray]


class Reader:
    """What ``quantize_static`` reads calibration data from."""

    def __init__(self, batches: Callable[[], Iterator[Arrays]]) -> None:
        self._batches = batches()

    def get_next(self) -> Arrays | None:
        return next(self._batches, None)


def their_static(fp32: Path, out: Path, batches: Callable[[], Iterator[Arrays]]) -> Path:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = out.with_suffix(".prepared.onnx")
    quant_pre_process(str(fp32), str(prepared))
    options = {"quant_format": QuantFormat.QDQ, "per_channel": True, "reduce_range": True}
    quantize_static(str(prepared), str(out), Reader(batches), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, **options)
    return out


def their_dynamic(fp32: Path, out: Path) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(fp32), str(out))
    return out


def table(
    files: Mapping[str, Path], inputs: Arrays, folder: Path, args: argparse.Namespace, peer: str, accuracy: Mapping[str, np.ndarray] | None = None
) -> None:
    latency = compare(files, inputs, folder, args.threads, args.seconds)
    stored = {name: target_named("onnxruntime").file_bytes(path) for name, path in files.items()}
    print("| model | median ms | p90 ms | to fp32 | to the peer | stored bytes | file bytes | of fp32's | fused and float kernels | accuracy |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, path in files.items():
        counted = {kind: n for kind, n in optimised_operators(path).items() if any(word in kind for word in ("Conv", "Gemm", "MatMul"))}
        quality = ""
        if accuracy is not None:
            d = paired_difference(accuracy[name], accuracy["fp32"])
            quality = f"{100 * accuracy[name].mean():.1f} % ({100 * d.value:+.2f} points, {100 * d.low:+.2f} to {100 * d.high:+.2f})"
        cells = [
            name,
            f"{latency[name].median:.2f}",
            f"{latency[name].p90:.2f}",
            said(latency[name].ratio(latency["fp32"])),
            said(latency[name].ratio(latency[peer])),
        ]
        cells += [
            f"{stored[name]:,}",
            f"{path.stat().st_size:,}",
            f"{stored[name] / stored['fp32']:.3f}",
            ", ".join(f"{n} {k}" for k, n in counted.items()),
            quality,
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def resnet50(folder: Path, args: argparse.Namespace) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    model = ResNetForImageClassification(ResNetConfig()).eval()
    images = {"pixel_values": torch.randn(8, 3, 224, 224)}
    one = {"pixel_values": images["pixel_values"][:1]}
    target = target_named("onnxruntime")
    fp32 = target.export(model, one, folder / "fp32")
    ours = target.export(compress(model, [{"quantize": {}}], images), one, folder / "ours")
    theirs = their_static(fp32, folder / "theirs.onnx", lambda: iter([{k: v.numpy() for k, v in images.items()}]))
    print("\nResNet-50, 1x3x224x224, random weights\n")
    table({"fp32": fp32, "ours": ours, "quantize_static": theirs}, {k: v.numpy() for k, v in one.items()}, folder, args, "quantize_static")


def prepared_of(name: str) -> Prepared:
    return prepare(Experiment.load(ROOT / "experiments" / f"{name}.yaml"), Cache(), lambda line: print(line, file=sys.stderr))


def compressed(p: Prepared, settings: dict[str, Any], folder: Path) -> Path:
    model = compress(p.model, [{"quantize": settings}] if settings else [], p.task.example_inputs, p.task, log=lambda line: print(line, file=sys.stderr))
    return p.target.export(model, p.task.example_inputs, folder)


def accuracies(p: Prepared, files: Mapping[str, Path]) -> dict[str, np.ndarray]:
    return {name: p.task.per_example(OnnxSession(path, 2), "report")["accuracy"] for name, path in files.items()}


def minilm(folder: Path, args: argparse.Namespace) -> None:
    p = prepared_of("minilm_clinc150")
    fp32 = compressed(p, {}, folder / "fp32")
    files = {"fp32": fp32, "ours": compressed(p, {"mode": "dynamic"}, folder / "ours"), "quantize_dynamic": their_dynamic(fp32, folder / "theirs.onnx")}
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(1, 20000, (1, 128)) if name == "input_ids" else np.ones((1, 128), dtype=np.int64) for name in p.task.example_inputs}
    print("\nMiniLM-L6 on CLINC150, latency at 1x128\n")
    table(files, inputs, folder, args, "quantize_dynamic", accuracies(p, files))


def resnet20(folder: Path, args: argparse.Namespace) -> None:
    p = prepared_of("resnet20_cifar10")
    fp32 = compressed(p, {}, folder / "fp32")
    theirs = their_static(fp32, folder / "theirs.onnx", lambda: ({k: v.numpy() for k, v in b.inputs.items()} for b in p.task.batches("calibration")))
    files = {"fp32": fp32, "ours": compressed(p, {"weight_bits": 8}, folder / "ours"), "quantize_static": theirs}
    print("\nResNet-20 on CIFAR-10\n")
    table(files, {k: v.numpy()[:1] for k, v in p.task.example_inputs.items()}, folder, args, "quantize_static", accuracies(p, files))


MODELS = {"resnet50": resnet50, "minilm": minilm, "resnet20": resnet20}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(MODELS)}; default: all")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    for name in args.models or MODELS:
        with tempfile.TemporaryDirectory() as folder:
            MODELS[name](Path(folder), args)


if __name__ == "__main__":
    main()
