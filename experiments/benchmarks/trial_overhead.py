"""What does a trial cost that does nothing? Ours beside Ray Tune's own ways, in one run.

    python experiments/benchmarks/trial_overhead.py [--trials 100] [--workers 2] [--repetitions 3] [--without WAY]

ours      search.running.Pool: CompressionTrial over the quickstart's model and data, with the empty recipe (priced, its evaluation found in the stage
          cache), and the study's ledger, which writes two files a trial
class     a class Trainable whose step returns one number, reuse_actors=True
loaded    the same class, given the quickstart's model and data as ours is: its actors import torch too
function  a function trainable that reports one number, OptunaSearch; Tune starts an actor for every trial, so it runs a fifth of the trials, once

All run in one Ray with the same RunConfig, resources and concurrency, after a warm-up, in turn. What Tuner.fit() and the removal of its folder take is
divided by the trials; of it, "start" is what passes until the first trial ends, "then" what each further one takes. Actors that hold a torch model
start later than those that hold nothing, whoever wrote them: of ours and "loaded" alike, the start is mostly the import of torch. Exit status 1 where ours
takes more than 1.3 times as long as the class, or the driver grows by more than 50 KB a trial.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Self

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from ray import tune  # noqa: E402

from search.cache import Cache  # noqa: E402
from search.cluster import connected  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.job import Job, new_job  # noqa: E402
from search.ledger import Ledger  # noqa: E402
from search.preparing import Prepared, prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.record import TrialRecord  # noqa: E402
from search.resources import TrialResources  # noqa: E402
from search.running import Pool  # noqa: E402
from search.running_front import RunningFront  # noqa: E402

LIMIT = 1.3
GROWTH = 50_000


class Plain(tune.Trainable):
    def setup(self, config: dict[str, Any], prepared: Any = None) -> None:
        self.prepared = prepared
        self.x = config["x"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.x = new_config["x"]
        return True

    def step(self) -> dict[str, Any]:
        return {"score": self.x, "done": True}


def function(config: dict[str, Any]) -> None:
    tune.report({"score": config["x"]})


class Ends(tune.Callback):
    """When each trial ended, and how large this process was then."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.memory: list[int] = []

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        self.times.append(time.perf_counter())
        self.memory.append(resident())


class Timing(NamedTuple):
    """Seconds: of the whole run divided by its trials, until the first ended, and of each further one; bytes that this process grew a trial, after the first
    tenth of them."""

    whole: float
    start: float
    then: float
    growth: float

    @classmethod
    def since(cls, begun: float, ends: list[float], memory: list[int]) -> Self:
        whole, first = time.perf_counter() - begun, len(memory) // 10
        grown = (memory[-1] - memory[first]) / max(1, len(memory) - 1 - first)
        return cls(whole / len(ends), ends[0] - begun, (ends[-1] - ends[0]) / (len(ends) - 1), grown)


class Work:
    """A study of empty recipes: each job and each record is written, as a search writes them."""

    def __init__(self, ledger: Ledger, trials: int) -> None:
        self._ledger = ledger
        self._jobs = iter(new_job(f"{i:04d}", []) for i in range(trials))
        self._front = RunningFront(ledger_experiment(ledger))
        self.statuses: Counter[str] = Counter()
        self.ends: list[float] = []
        self.memory: list[int] = []

    def next_job(self) -> Job | None:
        job = next(self._jobs, None)
        if job is not None:
            self._ledger.start(job)
        return job

    def reached(self, record: TrialRecord) -> bool:
        raise AssertionError(f"{record.id} has one rung")

    paused = reached

    def ended(self, record: TrialRecord) -> None:
        self._ledger.finish(record)
        self._front.add(record)
        self.statuses[record.status] += 1
        self.ends.append(time.perf_counter())
        self.memory.append(resident())


def ledger_experiment(ledger: Ledger) -> Experiment:
    return Experiment.load(ledger.folder / "experiment.yaml")


def resident() -> int:
    """Bytes of this process in memory, without what it shares."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def ours(prepared: Prepared, cache: Cache, trials: int, workers: int) -> Timing:
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger.create(Path(folder) / "noop", prepared.experiment)
        work = Work(ledger, trials)
        begun = time.perf_counter()
        Pool(prepared, cache, workers, TrialResources()).run(work)
        timing = Timing.since(begun, work.ends, work.memory)
        assert work.statuses == {"ok": trials}, "a no-op failed"
        assert len(ledger.records()) == trials
        ledger.close()
        return timing


def theirs(trainable: Any, trials: int, workers: int, **search: Any) -> Timing:
    ends = Ends()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = tune.TuneConfig(num_samples=trials, max_concurrent_trials=workers, **search)
        running = tune.RunConfig(
            storage_path=folder,
            verbose=0,
            callbacks=[ends],
            failure_config=tune.FailureConfig(max_failures=2),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
        )
        results = tune.Tuner(tune.with_resources(trainable, {"cpu": 1}), param_space={"x": tune.uniform(0, 1)}, tune_config=config, run_config=running).fit()
        assert len(results) == trials
        assert not results.num_errors
    return Timing.since(begun, ends.times, ends.memory)


def optuna(trials: int, workers: int) -> Timing:
    import optuna as library
    from ray.tune.search.optuna import OptunaSearch

    library.logging.set_verbosity(library.logging.WARNING)
    return theirs(function, trials, workers, search_alg=OptunaSearch(metric="score", mode="max", seed=0))


def measure(ways: dict[str, Callable[[int], Timing]], trials: int, repetitions: int) -> dict[str, list[Timing]]:
    """Of each way and repetition."""
    for way in ways.values():
        way(2)
    found: dict[str, list[Timing]] = {name: [] for name in ways}
    for repetition in range(repetitions):
        for name, way in ways.items():
            if name == "function" and repetition:
                continue
            found[name].append(way(max(2, trials // 5) if name == "function" else trials))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--without", action="append", default=[], choices=["class", "loaded", "function"], help="leave one out")
    args = parser.parse_args(arguments)
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder, connected(None):
        cache = Cache(Path(folder))
        prepared = prepare(Experiment.load("quickstart", ["fit.epochs=1"]), cache, lambda _: None)
        ways: dict[str, Callable[[int], Timing]] = {
            "ours": lambda trials: ours(prepared, cache, trials, args.workers),
            "class": lambda trials: theirs(Plain, trials, args.workers, reuse_actors=True),
            "loaded": lambda trials: theirs(tune.with_parameters(Plain, prepared=prepared), trials, args.workers, reuse_actors=True),
            "function": lambda trials: optuna(trials, args.workers),
        }
        found = measure({name: way for name, way in ways.items() if name not in args.without}, args.trials, args.repetitions)
    medians = {name: Timing(*map(statistics.median, zip(*timings, strict=True))) for name, timings in found.items()}
    print(f"{args.trials} no-op trials, {args.workers} workers, {args.repetitions} repetitions in turn, {os.cpu_count()} cores; medians, seconds")
    print(f"{'':10}{'a trial':>9}{'from':>8}{'to':>8}{'start':>8}{'then':>8}{'KB a trial':>12}   ours takes, as a whole and then")
    for name, middle in medians.items():
        whole = [timing.whole for timing in found[name]]
        figures = f"{middle.whole:9.3f}{min(whole):8.3f}{max(whole):8.3f}{middle.start:8.2f}{middle.then:8.3f}{middle.growth / 1e3:12.1f}"
        print(f"{name:10}{figures}   {medians['ours'].whole / middle.whole:.2f}x  {medians['ours'].then / middle.then:.2f}x")
    slow = "class" in medians and medians["ours"].whole > LIMIT * medians["class"].whole
    return 1 if slow or medians["ours"].growth > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
