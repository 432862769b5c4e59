"""What does it save to load stages that were computed before? One search with and one without, in one run.

    python experiments/benchmarks/stage_reuse.py [--epochs 12] [--workers 2]

The quickstart's model and data, 6 prune ratios x 8 assignments of bits, every one of the 48 recipes once, from an empty cache. Both are real searches in the
same Ray, with the same number of workers and the same order of recipes. "without" has a cache that never finds a model or an evaluation, so that each trial
prunes and trains for itself. Neither stops trials early nor trains replicates. Wall clock is that of the whole study: fit, baselines, trials, and the front
on the report split. Exit status 1 where reuse is less than 3 times as fast, or where a recipe has other metrics with it than without.
"""

import argparse
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import search.running  # noqa: E402
from search.cache import Cache  # noqa: E402
from search.cluster import connected  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.record import TrialRecord  # noqa: E402
from search.running import Pool  # noqa: E402
from search.study import Study  # noqa: E402
from search.trial import CompressionTrial  # noqa: E402

TARGET = 3.0


class Forgetful(Cache):
    """Finds scores, and nothing that a trial has made."""

    def get(self, key: str) -> Path | None:
        found = super().get(key)
        return found if found is not None and (found / "scores.npz").exists() else None


class Without(CompressionTrial):
    """The search's own trial, without reuse."""

    def step(self) -> dict[str, Any]:
        if not isinstance(self._runner.cache, Forgetful):
            self._runner.cache = Forgetful(*self._runner.cache.settings)
        return super().step()


class Run(NamedTuple):
    seconds: float
    records: tuple[TrialRecord, ...]

    @property
    def trials(self) -> dict[str, TrialRecord]:
        return {str(r.values): r for r in self.records if r.baseline is None}

    def stages(self, name: str) -> int:
        return sum(s.name == name and not s.cached for r in self.records for s in r.stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=48, help="of distillation (default: 48, some seconds)")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    quiet_libraries()
    recipe = (
        "recipe=[{prune: {criterion: l2, ratio: {channels: {choice: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}}}, "
        f"{{distill: {{epochs: {args.epochs}, temperature: 4, alpha: 0.5, learning_rate: 0.003}}}}, "
        "{quantize: {weight_bits: {choice: [2, 3, 4, 8]}, activation_bits: {choice: [8, 32]}}}]"
    )
    settings = ["search.algorithm=grid", "search.trials=48", "search.rungs=[]", "search.replicates=0", "search.verify=false", f"search.workers={args.workers}"]
    experiment = Experiment.load("quickstart", [recipe, *settings])
    runs = {}
    with connected(None), tempfile.TemporaryDirectory(prefix="compareto-stage-reuse-") as folder:
        for way, trial in (("with", CompressionTrial), ("without", Without)):
            search.running.Pool = partial(Pool, trial=trial)
            started = time.monotonic()
            results = Study(experiment, name=way, storage=Path(folder), cache=Path(folder) / f"cache-{way}").run()
            runs[way] = Run(time.monotonic() - started, results.records)
    reused, plain = runs["with"], runs["without"]
    print(f"\n{'stage reuse':<12}{'trials':>8}{'prunings':>10}{'trainings':>11}{'evaluations':>13}{'seconds in trials':>19}{'wall clock':>12}")
    for way, run in runs.items():
        counts = [run.stages(name) for name in ("prune", "distill", "evaluate")]
        seconds = sum(r.seconds for r in run.trials.values())
        print(f"{way:<12}{len(run.trials):>8}{counts[0]:>10}{counts[1]:>11}{counts[2]:>13}{seconds:>17.0f} s{run.seconds:>10.0f} s")
    differing = [key for key, record in plain.trials.items() if record.metrics != reused.trials[key].metrics or record.status != "ok"]
    ratio = plain.seconds / reused.seconds
    print(f"{ratio:.2f} times as fast (to reach: {TARGET:g}); {len(plain.trials) - len(differing)} of {len(plain.trials)} recipes have identical metrics")
    sys.exit(int(ratio < TARGET or bool(differing) or len(plain.trials) != 48 or set(plain.trials) != set(reused.trials)))


if __name__ == "__main__":
    main()
