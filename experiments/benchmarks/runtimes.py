"""Four models in three runtimes, as floats and as 8-bit integers: agreement with torch, accuracy, bytes, latency.

    python experiments/benchmarks/runtimes.py [--models resnet20 mobilenetv2 ...] [--runtimes onnxruntime litert executorch] [--threads 2] [--seconds 2]

Models: ResNet-20 (pretrained), MobileNetV2 and ViT-tiny (trained by `fit` for a few epochs) on CIFAR-10, MiniLM fine-tuned on CLINC150. Convolutional
networks are quantized with calibrated ranges, transformers with ranges taken at run time. `agreement` is the largest difference of the runtime's logits on
`report` from those of the torch model that was exported (quantized where it is), as a share of their range. `accuracy` is compared, paired, with the
uncompressed model in torch. Latency of one example, floats and integers taking turns in each of five processes: median over the processes, ratio with its
range.
"""

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from interleaved import compare, said  # noqa: E402 - found beside this file

from compressors.pipeline import compress  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from evaluators.tasks.array_task import module_predict  # noqa: E402
from evaluators.tasks.intervals import paired_difference  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

MODELS = {
    "resnet20": ("resnet20_cifar10", "static"),
    "mobilenetv2": ("mobilenetv2_cifar10", "static"),
    "minilm": ("minilm_clinc150", "dynamic"),
    "vit_tiny": ("vit_tiny_cifar10", "dynamic"),
}
RUNTIMES = ("onnxruntime", "litert", "executorch")


def logits_of(predict: Any, task: Any) -> np.ndarray:
    batches = task.batches("report", batch_size=task.evaluation_batch)
    return np.concatenate([np.asarray(predict({k: v.numpy() for k, v in batch.inputs.items()})["logits"]) for batch in batches])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--runtimes", nargs="+", default=list(RUNTIMES), choices=RUNTIMES)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0)
    args = parser.parse_args()
    quiet_libraries()
    warnings.simplefilter("ignore")
    print("| model | runtime | numbers | agreement | accuracy | points to fp32 in torch | stored bytes | file bytes | median ms | to fp32 |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in args.models:
        experiment, mode = MODELS[name]
        p = prepare(Experiment.load(ROOT / "experiments" / f"{experiment}.yaml"), Cache(), lambda line: print(line, file=sys.stderr))
        base = p.task.per_example(module_predict(p.model), "report")["accuracy"]
        labels = np.concatenate([batch.labels.numpy() for batch in p.task.batches("report", batch_size=p.task.evaluation_batch)])
        one = {k: v.numpy()[:1] for k, v in p.task.example_inputs.items()}
        for runtime in args.runtimes:
            target, rows, files = target_named(runtime), [], {}
            with tempfile.TemporaryDirectory() as folder:
                for numbers, recipe in (("fp32", []), ("int8", [{"quantize": {"mode": mode}}])):
                    model = compress(p.model, recipe, p.task.example_inputs, p.task, target=runtime, log=lambda line: print(line, file=sys.stderr))
                    path = files[numbers] = target.export(model, p.task.example_inputs, Path(folder) / numbers)
                    expected, found = logits_of(module_predict(model), p.task), logits_of(target.load(path, 2), p.task)
                    right = (found.argmax(-1) == labels).astype(np.float32)
                    d = paired_difference(right, base)
                    agreement = float(np.abs(found - expected).max() / np.ptp(expected))
                    points = f"{100 * d.value:+.2f} ({100 * d.low:+.2f} to {100 * d.high:+.2f})"
                    rows.append(
                        [numbers, f"{agreement:.1e}", f"{100 * right.mean():.1f} %", points, f"{target.file_bytes(path):,}", f"{path.stat().st_size:,}"]
                    )
                latency = compare(files, one, Path(folder), args.threads, args.seconds)
            for row in rows:
                own = latency[row[0]]
                print(f"| {' | '.join([name, runtime, *row, f'{own.median:.2f}', said(own.ratio(latency['fp32']))])} |", flush=True)


if __name__ == "__main__":
    main()
