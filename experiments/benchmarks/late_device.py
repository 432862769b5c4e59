"""How long does it take to price a finished study on a device that was not in it?

The study has 500 trials whose widths, bits, costs and bounds are those of really priced recipes; only their quality is invented, since nothing of it is read
but its value. What is timed is the whole command, ``compareto front STUDY --device NEW --format csv``, interpreter start included, in a process of its own;
beside it the same without ``--device``. Python keeps byte code, in a folder of its own. Exits 1 where the median exceeds two seconds.

python experiments/benchmarks/late_device.py [--experiment quickstart] [--trials 500] [--runs 5] [--device jetson-orin-nano/onnxruntime]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from compressors.compressor import GraphEdit
from compressors.errors import TrialError
from compressors.graph import Shapes
from compressors.graph.stored import graph_json
from compressors.recipe import Recipe
from evaluators.devices.calibration.anchors import Candidate
from evaluators.metric import Estimate
from search.baselines import baseline_recipes
from search.cache import Cache
from search.experiment import Experiment
from search.preparing import Prepared, prepare
from search.record import TrialRecord
from search.stages import StageRunner
from search.study_files import EXPERIMENT, GRAPH, RECORDS, REPORTS

LIMIT_S = 2.0
ROOT = Path(__file__).resolve().parents[2]


def record_of(prepared: Prepared, edit: GraphEdit, name: str, recipe: Recipe, accuracy: float, **fields: object) -> TrialRecord:
    """A record as a trial of this recipe would leave it, with an accuracy that nobody measured."""
    shapes = edit.shapes(prepared.graph)
    quality = {m.name: Estimate(accuracy, accuracy - 0.01, accuracy + 0.01, "measured") for m in prepared.task.quality}
    metrics = {**prepared.cost(edit), **quality}
    widths = {a.name: (a.size, len(edit.kept[a.name])) for a in prepared.graph.axes if a.name in edit.kept}
    candidate = Candidate.of(shapes).model_dump(mode="json")
    return TrialRecord(name, recipe.to_plain(), "ok", metrics=metrics, widths=widths, bounds=prepared.bounds(edit), candidate=candidate, **fields)  # type: ignore[arg-type]


def write_study(folder: Path, experiment: Experiment, trials: int) -> Prepared:
    """A study of so many trials, the last fiftieth of which is published."""
    for part in (RECORDS, REPORTS):
        (folder / part).mkdir(parents=True)
    prepared = prepare(experiment, Cache(), lambda _: None)
    runner, rng = StageRunner(prepared, Cache()), np.random.default_rng(0)
    (folder / EXPERIMENT).write_text(experiment.to_yaml())
    (folder / GRAPH).write_text(graph_json(prepared.graph))
    records = []
    for name, plain in baseline_recipes(experiment.space, runner).items():
        recipe = Recipe.from_plain(plain)
        edits = runner.plan(recipe)
        edit = edits[-1] if edits else GraphEdit.identity(prepared.graph)
        records.append(record_of(prepared, edit, f"baseline-{name}", recipe, 0.9, baseline=name))
    while len(records) < trials:
        recipe = experiment.space.recipe(experiment.space.sample(rng))
        try:
            edits = runner.plan(recipe)
        except TrialError:
            continue
        edit = edits[-1] if edits else GraphEdit.identity(prepared.graph)
        records.append(record_of(prepared, edit, f"{len(records):04d}", recipe, float(rng.uniform(0.5, 0.95))))
    for i, record in enumerate(records):
        (folder / RECORDS / f"{record.id}.json").write_text(record.to_json())
        if record.baseline or i % 50 == 0:
            report = {m.name: record.metrics[m.name].to_plain() for m in prepared.task.quality}
            (folder / REPORTS / f"{record.id}.json").write_text(json.dumps({"report": report}))
    return prepared


def timed(arguments: list[str], runs: int, kept: Path) -> list[float]:
    """Seconds of the whole command, of each run but a first that warms the file system and leaves its byte code in ``kept``."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {"PYTHONPYCACHEPREFIX": str(kept)}
    seconds = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "search.cli", *arguments], check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def main() -> int:
    """Write the study, time the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", default="quickstart")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--device", default="jetson-orin-nano/onnxruntime")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        prepared = write_study(folder, Experiment.load(args.experiment), args.trials)
        size = sum(path.stat().st_size for path in folder.rglob("*.json")) / 1e6
        axes, sites, operators = len(prepared.graph.axes), len(prepared.graph.sites), len(prepared.graph.operators)
        print(f"{args.experiment}: {args.trials} records, {size:.1f} MB; {axes} axes, {sites} sites, {operators} operators")
        shapes = [prepared.graph.baseline()] * args.trials
        started = time.perf_counter()
        next(iter(prepared.devices.values())).cost(prepared.graph, Shapes.concatenate(shapes))
        print(f"pricing alone, in a process that has all in memory: {time.perf_counter() - started:.3f} s")
        without = timed(["front", str(folder), "--format", "csv"], args.runs, Path(temporary) / "bytecode")
        late = timed(["front", str(folder), "--device", args.device, "--format", "csv"], args.runs, Path(temporary) / "bytecode")
    for name, seconds in (("front", without), (f"front --device {args.device}", late)):
        print(f"{name}: median {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), {args.runs} runs")
    return int(statistics.median(late) > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main())
