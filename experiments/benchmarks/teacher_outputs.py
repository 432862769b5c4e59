"""What does it save to look up what the teacher says, instead of running it beside the student? Trials of both kinds in turn, in one run.

    python experiments/benchmarks/teacher_outputs.py [resnet20_cifar10 minilm_clinc150] [--epochs 2] [--repeats 3] [--train 3000]

A trial is what a search runs: a recipe of prune and distill, trained and evaluated on the ``search`` split, by the search's own stage runner, with one thread.
Pruning is in the cache before; trials of a pair differ only in whether the runner may store outputs, and each has a seed of its own. ResNet-20 on CIFAR-10
(augmented: one table for each epoch's variant) and MiniLM on CLINC150 (not fine-tuned here: what a teacher says does not change what it costs).

``first`` is a trial that finds no table and computes them. Exit status 1 where a trial with tables takes more than 0.75 of the time without, by the median of
the pairs, or where its metrics differ from those of the trial without (where texts are cut to the longest of their batch: from those of the first trial).
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from compressors.recipe import Recipe  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.preparing import prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.stages import Outcome, StageRunner  # noqa: E402

TARGET = 0.75
PRUNE = {
    "resnet20_cifar10": {"criterion": "l2", "ratio": {"channels": 0.4}},
    "minilm_clinc150": {"criterion": "l2", "ratio": {"ffn": 0.4, "heads": 0.25}},
}
DISTILL = {
    "resnet20_cifar10": {"temperature": 4, "alpha": 0.7, "learning_rate": 0.05, "optimizer": "sgd", "weight_decay": 0.0005, "batch_size": 64},
    "minilm_clinc150": {"temperature": 4, "alpha": 0.7, "learning_rate": 0.0002, "batch_size": 32},
}


def timed(runner: StageRunner, recipe: Recipe, replicate: int) -> tuple[float, Outcome]:
    started = time.perf_counter()
    outcome = runner.run(recipe, replicate=replicate)
    return time.perf_counter() - started, outcome


def compare(name: str, epochs: int, repeats: int, train: int | None, place: Path) -> tuple[list[float], list[float], float, bool]:
    """Seconds of trials without and with tables, of the first one with, and whether metrics are the same."""
    limits = [f"data.max_samples={train}"] if train else []
    prepared = prepare(
        Experiment.load(ROOT / f"experiments/{name}.yaml", ["fit=null", "devices=[raspberry-pi-4/onnxruntime]", "objectives=[accuracy, size_bytes]", *limits]),
        Cache(place / "shared"),
        print,
    )
    prune = {"prune": PRUNE[name]}
    recipe = Recipe.from_plain([prune, {"distill": {"epochs": epochs, **DISTILL[name]}}])
    runners = {way: StageRunner(prepared, Cache(place / f"{name}-{way}")) for way in ("without", "with")}
    runners["without"].outputs = None
    for runner in runners.values():
        runner.run(Recipe.from_plain([prune]))
    seconds: dict[str, list[float]] = {way: [] for way in runners}
    first, _ = timed(runners["with"], recipe, 0)
    same = True
    for replicate in range(1, repeats + 1):
        found = {}
        # The order changes, so that what a machine does to whoever is first is shared.
        for way in sorted(runners, reverse=bool(replicate % 2)):
            spent, found[way] = timed(runners[way], recipe, replicate)
            seconds[way].append(spent)
        same &= found["with"].metrics == found["without"].metrics
        accuracy = ", ".join(f"{way} {outcome.metrics['accuracy'].value:.4f}" for way, outcome in found.items())
        print(f"{name}: without {seconds['without'][-1]:.1f} s, with {seconds['with'][-1]:.1f} s; accuracy {accuracy}", flush=True)
    return seconds["without"], seconds["with"], first, same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="*", default=list(PRUNE))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--train", type=int, help="at most so many examples of each split")
    args = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(1)
    rows, failed = [], False
    with tempfile.TemporaryDirectory(prefix="compareto-teacher-outputs-") as folder:
        for name in args.experiments:
            without, stored, first, same = compare(name, args.epochs, args.repeats, args.train, Path(folder))
            ratios = [b / a for a, b in zip(without, stored, strict=True)]
            middle = statistics.median(ratios)
            failed |= middle > TARGET
            spread = f"{middle:.3f} ({min(ratios):.3f}-{max(ratios):.3f})"
            times = "".join(f"{value:>9.1f} s" for value in (statistics.median(without), statistics.median(stored), first))
            rows.append(f"{name:<18}{times}  {spread:<22}{'the same' if same else 'differ'}")
    print(f"\n{args.epochs} epochs, {args.repeats} pairs, torch {torch.__version__}, one thread; medians, ratio of pairs (range), to reach: {TARGET}")
    print(f"{'trial':<18}{'without':>11}{'with':>11}{'first':>11}  {'with / without':<22}metrics")
    print("\n".join(rows))
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
