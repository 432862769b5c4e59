"""ResNet-20 on CIFAR-10, pruned in several ways and recovered alike: what such comparisons share.

Every run of a comparison has the same training loop, data order (by seed), number of steps and learning rate. Results go to a file of JSON lines as they come,
and runs that are in it are not run again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from witness import count_macs, count_parameters  # noqa: E402 - found beside this file

from compressors.compressor import GraphEdit  # noqa: E402
from compressors.context import Context  # noqa: E402
from compressors.distillation import Distill  # noqa: E402
from compressors.graph import ModelGraph, Shapes  # noqa: E402
from compressors.pruning import score  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from evaluators.tasks.array_task import ArrayTask, module_predict  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.loading import load_experiment  # noqa: E402

EXPERIMENT = ROOT / "experiments/resnet20_cifar10.yaml"
RECOVERY: dict[str, Any] = {
    "temperature": 4.0,
    "alpha": 0.7,
    "learning_rate": 0.05,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "batch_size": 64,
}
"""Distillation from the unpruned model, as in the experiment."""

_Z = {0.9: 1.6448536269514722, 0.95: 1.959963984540054}
"""Half widths of two-sided intervals, in standard errors."""


@dataclass(frozen=True)
class Baseline:
    """The unpruned model with its task and trace."""

    task: ArrayTask
    model: nn.Module
    graph: ModelGraph
    key: str

    @classmethod
    def load(cls, path: Path = EXPERIMENT) -> Baseline:
        loaded = load_experiment(Experiment.load(path))
        assert isinstance(loaded.task, ArrayTask)
        return cls(loaded.task, loaded.model.eval(), loaded.graph, state_of(loaded.model))

    @property
    def macs(self) -> int:
        return count_macs(self.model, self.task.example_inputs)

    def context(self, seed: int) -> Context:
        # Every epoch counts the seed up by one: runs of different seeds have no order of examples in common.
        return Context(self.task, self.model, self.graph, self.task.example_inputs, target_named("onnxruntime"), seed=1000 * seed)

    def plan(self, kinds: Sequence[str], removed: float) -> tuple[float, GraphEdit]:
        """The smallest ratio (in thousandths) of units of ``kinds``, the least important by l2 in every layer, that removes a share of the MACs; its plan."""
        scores = {"l2": score(self.model, self.graph, "l2")}
        ratios = [i / 1000 for i in range(1, 950)]
        plans = [Recipe.from_plain([{"prune": {"criterion": "l2", "ratio": dict.fromkeys(kinds, ratio)}}]).plan(self.graph, scores)[-1] for ratio in ratios]
        macs = self.graph.count_macs(Shapes.concatenate([plan.shapes(self.graph) for plan in plans]))
        first = int(np.argmax(macs <= (1 - removed) * self.graph.macs))
        return ratios[first], plans[first]

    def measured(self, model: nn.Module) -> dict[str, Any]:
        """Counts that do not come from the graph, and for each image of ``report`` whether its class is right."""
        correct = self.task.per_example(module_predict(model), "report")["accuracy"] > 0
        return {
            "macs": count_macs(model, self.task.example_inputs),
            "parameters": count_parameters(model),
            "report": np.packbits(correct).tobytes().hex(),
            "report_accuracy": float(correct.mean()),
        }

    def correct(self, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """``[rows, images]``, 1 where the class is right."""
        images = len(self.task.arrays["report"]["labels"])
        return np.stack([np.unpackbits(np.frombuffer(bytes.fromhex(row["report"]), dtype=np.uint8))[:images] for row in rows]).astype(np.float64)


def state_of(model: nn.Module) -> str:
    """Sixteen hexadecimal digits of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + repr(tuple(tensor.shape)).encode() + tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def recovery(steps: int) -> Distill:
    return Distill(steps=steps, **RECOVERY)


def recovered(baseline: Baseline, pruned: nn.Module, steps: int, seed: int) -> nn.Module:
    """A trained copy of ``pruned``, whatever has pruned it."""
    return recovery(steps).apply(pruned, GraphEdit.identity(baseline.graph), baseline.context(seed))


class Runs:
    """Finished runs in a file of JSON lines, by everything that a run depends on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text().splitlines():
                row = json.loads(line)
                self._rows[_key(row["run"])] = row

    def get(self, **run: Any) -> dict[str, Any] | None:
        return self._rows.get(_key(run))

    def like(self, **values: Any) -> dict[str, Any] | None:
        """A row that has these values, of the run or of what came out."""
        return next((row for row in self._rows.values() if all({**row, **row["run"]}.get(name) == value for name, value in values.items())), None)

    def add(self, row: Mapping[str, Any], **run: Any) -> dict[str, Any]:
        made = {"run": run, **row}
        self._rows[_key(run)] = made
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(made) + "\n")
        return made


def _key(run: Mapping[str, Any]) -> str:
    return json.dumps(dict(run), sort_keys=True)


def paired(a: NDArray[np.float64], b: NDArray[np.float64], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of ``a - b`` and its interval of 90 or 95 %; both ``[seeds, images]``, seeds and images being samples of many.

    The variance of the mean is that of a two-way layout without replication: of images, of seeds, and of what is left.
    """
    difference = a - b
    seeds, images = difference.shape
    mean = float(difference.mean())
    by_image, by_seed = difference.mean(axis=0) - mean, difference.mean(axis=1) - mean
    ms_image = seeds * float((by_image**2).sum()) / max(images - 1, 1)
    ms_seed = images * float((by_seed**2).sum()) / max(seeds - 1, 1)
    rest = difference - mean - by_image[None] - by_seed[:, None]
    ms_rest = float((rest**2).sum()) / max((images - 1) * (seeds - 1), 1)
    half = _Z[level] * float(np.sqrt(max(ms_image + ms_seed - ms_rest, ms_image, ms_seed) / difference.size))
    return mean, mean - half, mean + half


def points(estimate: tuple[float, float, float]) -> str:
    """A difference of accuracies, in points."""
    mean, low, high = (100 * value for value in estimate)
    return f"{mean:+.2f} [{low:+.2f}, {high:+.2f}]"


def accuracies(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean over seeds, and each."""
    values = [100 * row["report_accuracy"] for row in rows]
    return f"{np.mean(values):.2f} ({', '.join(f'{value:.1f}' for value in values)})"


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {' | '.join(heads)} |"
    yield f"|{'|'.join('---' for _ in heads)}|"
    yield from (f"| {' | '.join(row)} |" for row in rows)


def conditions(steps: int, seeds: int) -> str:
    return f"{steps} steps of batch {RECOVERY['batch_size']}, {seeds} seeds, torch {torch.__version__}, {torch.get_num_threads()} threads"
