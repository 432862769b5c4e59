"""What several workers are worth, through the Pool that a search uses.

cores     1 and 2 workers of one thread each run the quickstart's training, every trial of other seeds, none of it cached. Rate: trials that are done in a
          second of the steady part, which begins when every worker has its second trial (the first also imports torch) and ends when the last
          trial starts; a trial that lies partly in it counts by its share. Efficiency: rate of 2 workers over twice the rate of 1.
sleepers  64 workers, each 1/32 of a core and without torch, run trials that only sleep. Utilisation: seconds slept in the steady part, over 64 times
          its length; it begins when the last of the 64 workers has begun to sleep, and ends when the last trial starts.

Exit code 1 where efficiency is below 85 % or utilisation below 90 %.

    python experiments/benchmarks/parallel.py [--only cores|sleepers]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from ray import tune  # noqa: E402

from search.cache import Cache  # noqa: E402
from search.cluster import connected  # noqa: E402
from search.experiment import Experiment  # noqa: E402
from search.job import Job, new_job  # noqa: E402
from search.preparing import prepare  # noqa: E402
from search.quiet import quiet_libraries  # noqa: E402
from search.record import TrialRecord  # noqa: E402
from search.resources import TrialResources  # noqa: E402
from search.running import Pool  # noqa: E402

EFFICIENCY, UTILISATION = 0.85, 0.9
WORKERS = 64


class Span(NamedTuple):
    """When a trial ran, in seconds of this machine's clock."""

    begin: float
    end: float


class Sleeper(tune.Trainable):
    """A trial that needs a worker and nothing else."""

    def setup(self, config: dict[str, Any], **parameters: Any) -> None:
        self.job = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.job = new_config
        return True

    def step(self) -> dict[str, Any]:
        begin = time.time()
        time.sleep(self.job["values"]["seconds"])
        assert "torch" not in sys.modules
        values = {"begin": begin, "end": time.time(), "worker": os.getpid()}
        return {"record": TrialRecord(self.job["id"], [], "ok", values=values).to_json(), "done": True}


class List:
    """Jobs in order, and what came of them."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.records, self.spans = list(jobs), [], []

    def next_job(self) -> Job | None:
        return self.jobs.pop(0) if self.jobs else None

    def reached(self, record: TrialRecord) -> bool:
        return True

    def paused(self, record: TrialRecord) -> None:
        raise AssertionError("nothing stops these trials")

    def ended(self, record: TrialRecord) -> None:
        assert record.status == "ok", record.reason
        self.records.append(record)
        self.spans.append(Span(time.time() - record.seconds, time.time()))


def within(spans: Sequence[Span], window: Span) -> list[float]:
    """Seconds of each span that lie in the window."""
    return [max(0.0, min(span.end, window.end) - max(span.begin, window.begin)) for span in spans]


def cores(trials: int, steps: int) -> float:
    """Efficiency of 2 workers."""
    recipe = [{"prune": {"ratio": {"channels": 0.25}}}, {"distill": {"steps": steps}}]
    rates = {}
    with tempfile.TemporaryDirectory() as folder, connected(None):
        cache = Cache(folder)
        prepared = prepare(Experiment.load("quickstart", ["fit.epochs=1"]), cache, lambda _: None)
        for workers in (1, 2):
            pool = Pool(prepared, cache, workers, TrialResources(cpus=1.0))
            work = List([new_job(f"{i:04d}", recipe, replicate=100 * workers + i) for i in range(trials)])
            pool.run(work)
            spans = sorted(work.spans)
            window = Span(spans[2 * workers - 1].begin, spans[-1].begin)
            shares = [inside / (span.end - span.begin) for span, inside in zip(spans, within(spans, window), strict=True)]
            rates[workers] = sum(shares) / (window.end - window.begin)
            mean = sum(span.end - span.begin for span in spans) / len(spans)
            print(
                f"cores     {workers} workers: {rates[workers]:.3f} trials a second over {window.end - window.begin:.0f} s; a trial takes {mean:.2f} s",
                flush=True,
            )
    return rates[2] / (2 * rates[1])


def sleepers(rounds: int, seconds: float) -> float:
    """Utilisation of 64 workers."""
    with tempfile.TemporaryDirectory() as folder, connected(None) as resources:
        share = int(10_000 * resources["CPU"] / WORKERS) / 10_000
        pool = Pool(None, Cache(folder), WORKERS, TrialResources(cpus=share), trial=Sleeper)
        work = List([new_job(f"{i:04d}", [], values={"seconds": seconds}) for i in range(rounds * WORKERS)])
        begun = time.time()
        pool.run(work)
    spans = sorted(Span(r.values["begin"], r.values["end"]) for r in work.records)
    first = {}
    for record in sorted(work.records, key=lambda r: r.values["begin"]):
        first.setdefault(record.values["worker"], record.values["begin"])
    window = Span(max(first.values()), spans[-1].begin)
    length = window.end - window.begin
    used = sum(within(spans, window)) / (WORKERS * length)
    print(f"sleepers  {len(first)} workers of {share:g} cores, {len(spans)} trials of {seconds:g} s")
    print(f"sleepers  all sleep after {window.begin - begun:.0f} s; steady for {length:.0f} s")
    assert len(first) == WORKERS, f"{len(first)} workers took part"
    return used


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["cores", "sleepers"])
    parser.add_argument("--trials", type=int, default=16, help="of cores")
    parser.add_argument("--steps", type=int, default=300, help="of the training of one of them")
    parser.add_argument("--rounds", type=int, default=6, help="of sleepers: trials for each worker")
    parser.add_argument("--seconds", type=float, default=20.0, help="that one of them sleeps")
    args = parser.parse_args(arguments)
    quiet_libraries()
    missed = 0
    machine = f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when this began"
    if args.only != "sleepers":
        found = cores(args.trials, args.steps)
        print(f"cores     efficiency from 1 to 2 workers {found:.1%}, to reach {EFFICIENCY:.0%}; {machine}")
        missed += found < EFFICIENCY
    if args.only != "cores":
        found = sleepers(args.rounds, args.seconds)
        print(f"sleepers  utilisation {found:.1%}, to reach {UTILISATION:.0%}; {machine}")
        missed += found < UTILISATION
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
