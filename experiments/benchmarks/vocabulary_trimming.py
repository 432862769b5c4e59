"""What does a trimmed vocabulary save, and what does it cost? MiniLM, fitted on CLINC150.

    python experiments/benchmarks/vocabulary_trimming.py [EXPERIMENT.yaml]

Tokens that neither `train` nor `search` has are dropped; `report`, which is the dataset's validation split, is left out of the count, so that accuracy there is
that on new texts. The fitted model comes from the stage cache, or is fitted first (minutes).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from recoveries import markdown, paired, points  # noqa: E402 - found beside this file

from compressors.compressor import GraphEdit  # noqa: E402
from compressors.pipeline import compress  # noqa: E402
from evaluators.tasks.array_task import module_predict  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

RECIPE = [{"trim_vocabulary": {"splits": ["train", "search"]}}]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", nargs="?", type=Path, default=ROOT / "experiments/minilm_clinc150.yaml")
    args = parser.parse_args(arguments)
    quiet_libraries()
    prepared = prepare(Experiment.load(args.experiment), Cache(), lambda line: print(line, file=sys.stderr))
    task, graph, target = prepared.task, prepared.graph, prepared.target
    trimmed = compress(prepared.model, RECIPE, task.example_inputs, task, log=lambda line: print(line, file=sys.stderr))
    edit = GraphEdit.identity(graph).as_made(getattr(trimmed, "compareto_structure", None))
    lines, correct, logits = [], [], []
    for name, model, shapes in (("whole", prepared.model, graph.baseline()), ("trimmed", trimmed, edit.shapes(graph))):
        predict = module_predict(model)
        correct.append(task.per_example(predict, "report")["accuracy"])
        logits.append(np.concatenate([predict({k: v.numpy() for k, v in batch.inputs.items()})["logits"] for batch in task.batches("report", batch_size=250)]))
        with tempfile.TemporaryDirectory() as folder:
            found = target.file_bytes(target.export(model, task.example_inputs, Path(folder)))
        tokens = [int(shapes.widths[0, graph.axis_index(vocabulary.axis)]) for vocabulary in graph.vocabularies]
        counts = [*(f"{n:,}" for n in tokens), f"{int(graph.count_parameters(shapes)[0]):,}", f"{int(target.stored_bytes(graph, shapes)[0]):,}", f"{found:,}"]
        lines.append([name, *counts, f"{100 * correct[-1].mean():.2f} %"])
    heads = ("vocabulary", *("tokens" for _ in graph.vocabularies), "parameters", "bytes, priced", "bytes in the ONNX file", "accuracy on report")
    print("\n".join(markdown(heads, lines)))
    changed = int((logits[0].argmax(-1) != logits[1].argmax(-1)).sum())
    estimate = paired(*(np.asarray(each, dtype=np.float64)[None] for each in reversed(correct)))
    print(f"\n{changed} of {len(correct[0])} predictions differ; accuracy {points(estimate)} points (95 %, paired)")
    return 0 if estimate[1] <= 0 <= estimate[2] else 1


if __name__ == "__main__":
    sys.exit(main())
