"""Are prices true? Random recipes are priced from the graph, then really made and counted by something else.

    python experiments/benchmarks/pricing.py [EXPERIMENT.yaml ...] [--recipes 200] [--exports 10] [--seed 0]

Every recipe prunes every kind that the model offers, each with its own ratio, and quantizes to random widths. Parameters, MACs and bytes are compared
with counts on the live module (see witness.py); for a random subset the bytes also with those in an exported ONNX file, which holds a few constants more.
Exit status 1 where a count differs, or a file by more than the 2 % that `compareto verify` allows.
"""

import argparse
import random
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from witness import count_bytes, count_macs, count_parameters  # noqa: E402 - found beside this file

from compressors.compressor import GraphEdit, Scores  # noqa: E402
from compressors.context import Context  # noqa: E402
from compressors.errors import UserError  # noqa: E402
from compressors.graph import ModelGraph, Shapes  # noqa: E402
from compressors.pruning import score  # noqa: E402
from compressors.pruning.prune import KINDS  # noqa: E402
from compressors.recipe import Recipe  # noqa: E402
from compressors.targets import target_named  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.loading import load_experiment  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402

MODELS = ("resnet20_cifar10", "minilm_clinc150")
COUNTS = ("parameters", "macs", "bytes")
FILE_TOLERANCE = 0.02


def random_recipe(rng: random.Random, kinds: list[str]) -> Recipe:
    """Prune every kind by a ratio of its own, then quantize (one in eight stays float)."""
    prune = {
        "criterion": rng.choice(["l1", "l2"]),
        "scope": rng.choice(["local", "global"]),
        "ratio": {kind: round(rng.uniform(0, 0.95), 3) for kind in kinds},
        "round_to": rng.choice([1, 1, 1, 8]),
    }
    steps: list[dict[str, Any]] = [{"prune": prune}]
    if rng.random() < 7 / 8:
        steps.append({"quantize": {"weight_bits": rng.choice([4, 8, 16]), "activation_bits": rng.choice([8, 16])}})
    return Recipe.from_plain(steps)


@dataclass
class Comparison:
    """Priced against counted, of one model: ``{count: [(priced, counted), ...]}``, and bytes priced against bytes in a file."""

    experiment: str
    pairs: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: {name: [] for name in COUNTS})
    files: list[tuple[int, int]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("price", "make", "export"), 0.0))
    differing: list[str] = field(default_factory=list)

    def add(self, name: str, priced: int, counted: int, recipe: Recipe) -> None:
        self.pairs[name].append((priced, counted))
        if priced != counted:
            self.differing.append(f"{self.experiment}: {name} priced {priced:,}, found {counted:,} of {recipe.to_plain()}")

    def equal(self, name: str) -> str:
        return f"{sum(priced == counted for priced, counted in self.pairs[name])}/{len(self.pairs[name])}"

    def add_file(self, priced: int, found: int, recipe: Recipe) -> None:
        self.files.append((priced, found))
        if abs(found - priced) > FILE_TOLERANCE * priced:
            self.differing.append(f"{self.experiment}: bytes priced {priced:,}, in the file {found:,} of {recipe.to_plain()}")

    def file_range(self) -> str:
        """Smallest and largest relative difference of a file from its price."""
        shares = [found / priced - 1 for priced, found in self.files]
        return f"{min(shares):+.2%} to {max(shares):+.2%}" if shares else "-"


def compare(path: Path, recipes: int, exports: int, seed: int) -> Comparison:
    """Price, make and count ``recipes`` random recipes of an experiment's model, and export ``exports`` of them."""
    experiment = Experiment.load(path)
    loaded = load_experiment(experiment)
    model, graph, inputs = loaded.model.eval(), loaded.graph, loaded.task.example_inputs
    _fill_zero_biases(model, seed)
    target = target_named(experiment.target)
    rng = random.Random(seed)
    drawn = [random_recipe(rng, [kind for kind in KINDS if any(axis.kind == kind for axis in graph.prunable)]) for _ in range(recipes)]
    exported = set(rng.sample(range(recipes), min(exports, recipes)))
    context = Context(None, model, graph, inputs, target)
    result = Comparison(experiment.name)
    scores: Scores = {criterion: score(model, graph, criterion) for criterion in ("l1", "l2")}

    started = time.perf_counter()
    plans = [recipe.plan(graph, scores) for recipe in drawn]
    shapes = Shapes.concatenate([edits[-1].shapes(graph) for edits in plans])
    priced = np.stack([graph.count_parameters(shapes), graph.count_macs(shapes), target.stored_bytes(graph, shapes)], axis=1)
    result.seconds["price"] = time.perf_counter() - started

    for i, (recipe, edits) in enumerate(zip(drawn, plans, strict=True)):
        started = time.perf_counter()
        pruned = recipe.steps[0].apply(model, edits[0], context)
        parameters, macs, size = (int(value) for value in priced[i])
        result.add("parameters", parameters, count_parameters(pruned), recipe)
        result.add("macs", macs, count_macs(pruned, inputs), recipe)
        result.add("bytes", size, count_bytes(pruned, inputs, _weight_bits(graph, edits[-1])), recipe)
        result.seconds["make"] += time.perf_counter() - started
        if i in exported:
            started = time.perf_counter()
            result.add_file(size, _file_bytes(pruned, recipe, edits, context), recipe)
            result.seconds["export"] += time.perf_counter() - started
    return result


def _fill_zero_biases(model: nn.Module, seed: int) -> None:
    """A fresh head has biases of zero, which the exporter leaves out; those of a model that was trained are not."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.ndim == 1 and not parameter.any():
            parameter.data = 0.01 * torch.randn(parameter.shape, generator=generator)


def _weight_bits(graph: ModelGraph, edit: GraphEdit) -> dict[str, int]:
    return {site.name: int(bits) for site, bits in zip(graph.sites, edit.weight_bits, strict=True)}


def _file_bytes(pruned: nn.Module, recipe: Recipe, edits: tuple[GraphEdit, ...], context: Context) -> int:
    """Weights, scales and biases in the ONNX file of the model that the recipe's remaining steps make of ``pruned``."""
    for step, edit in zip(recipe.steps[1:], edits[1:], strict=True):
        pruned = step.apply(pruned, edit, context)
    with tempfile.TemporaryDirectory() as folder:
        return context.target.file_bytes(context.target.export(pruned, context.example_inputs, Path(folder)))


def table(results: list[Comparison]) -> str:
    """One line a model."""
    heads = ("model", "parameters", "MACs", "bytes", "files", "bytes in them", "to price", "to make and count", "to export")
    rows = [
        (
            r.experiment,
            *(r.equal(name) for name in COUNTS),
            str(len(r.files)),
            r.file_range(),
            *(f"{r.seconds[part]:.1f} s" for part in ("price", "make", "export")),
        )
        for r in results
    ]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (heads, *rows))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", type=Path, default=[ROOT / f"experiments/{name}.yaml" for name in MODELS])
    parser.add_argument("--recipes", type=int, default=200, help="of each model (default: 200)")
    parser.add_argument("--exports", type=int, default=10, help="of them that are exported too (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    quiet_libraries()
    results = []
    for path in args.experiments:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                results.append(compare(path, args.recipes, args.exports, args.seed))
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
    print(f"{args.recipes} random recipes, seed {args.seed}, torch {torch.__version__}; of each model; equal / compared:")
    print(table(results))
    differing = [line for result in results for line in result.differing]
    for line in differing[:10]:
        print(line)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
