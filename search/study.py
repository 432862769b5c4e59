"""A study: one experiment's search from the first baseline to the published front."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressors.errors import UserError
from search.baselines import baseline_recipes
from search.budget import Budget
from search.cache import Cache
from search.cluster_address import require_reachable
from search.experiment import Experiment
from search.front_formats import write_exports
from search.front_table import verified_lines
from search.front_verification import FrontVerifier
from search.ledger import Ledger
from search.preparing import Prepared, prepare
from search.progress import Progress
from search.proposals import Proposals
from search.record import TrialRecord
from search.results import UNCOMPRESSED, Results
from search.stages import StageRunner
from search.study_files import ARTIFACTS, STORAGE

if TYPE_CHECKING:
    from search.running import Pool

__all__ = ["Study"]

Job = dict[str, Any]


class Study:
    """Runs an experiment in a folder of its own.

    Args:
        experiment: what to search.
        name: of the study; EXPERIMENT-TIMESTAMP where None.
        storage: folder of studies.
        resume: continue the study of this name.
        address: of an existing Ray cluster; None starts Ray here.
        keep_artifacts: keep those of the front's points, in ``artifacts`` in the study's folder, which the verification makes.

    Raises:
        UserError: a name that is none, or artifacts of an experiment that leaves out the verification.
    """

    def __init__(
        self,
        experiment: Experiment,
        *,
        name: str | None = None,
        storage: str | Path = STORAGE,
        resume: bool = False,
        address: str | None = None,
        keep_artifacts: bool = False,
    ) -> None:
        self.experiment = experiment
        self.name = name or f"{experiment.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        if self.name.startswith(".") or Path(self.name).name != self.name:
            raise UserError(f"--name {self.name!r} cannot be a folder of studies; accepted: a name without '/' that does not start with '.'")
        self.folder = Path(storage) / self.name
        if keep_artifacts and not experiment.search.verify:
            raise UserError("--keep-artifacts: artifacts are made when the front is verified, which search.verify: false or --no-verify leaves out")
        self._resume, self._address, self._keep = resume, address, keep_artifacts

    def run(self) -> Results:
        """Search, publish the front on ``report``, verify its points, write trials.jsonl, front.csv and report.html.

        Raises:
            UserError: the study exists, is another experiment's, is being written by another process, no cluster answers at the address, or model or
                data are wrong. A study that got no record is then removed, so that its name is free.
        """
        if self._address is not None:
            require_reachable(self._address)
        ledger = Ledger.resume(self.folder, self.experiment) if self._resume else Ledger.create(self.folder, self.experiment)
        try:
            return self._run(ledger)
        except Exception:
            if not self._resume:
                ledger.discard()
            raise
        finally:
            ledger.close()

    def _run(self, ledger: Ledger) -> Results:
        from search.running import Pool, connected

        done = list(ledger.records())
        cache = Cache()
        with Progress(self.experiment.search.trials) as progress, connected(self._address) as resources:
            spec = self.experiment.search
            gpus = resources.get("GPU", 0)
            progress.line(f"study {self.folder}: {resources.get('CPU', 1):.0f} CPU cores, {f'{gpus:.0f} GPUs' if gpus else 'no accelerator found'}")
            prepared = prepare(self.experiment, cache, progress.line)
            runner = StageRunner(prepared, cache)
            cpus = spec.cpus_per_trial or max(1, int(resources.get("CPU", 1)) // (spec.workers or int(resources.get("CPU", 1))))
            share = spec.gpus_per_trial if spec.gpus_per_trial is not None else (1.0 if gpus else 0.0)
            workers = spec.workers or max(1, int(resources.get("CPU", 1)) // cpus)
            pool = Pool(prepared, cache, workers, cpus, share)
            self._baselines(ledger, runner, pool, done, progress)
            self._search(ledger, runner, pool, done, progress)
            self._publish(ledger, prepared, pool, progress)
            if spec.verify:
                self._verify(ledger, prepared, pool, progress, cache)
        results = Results.load(self.folder)
        write_exports(results, self.folder)
        self._say(results)
        return results

    def _baselines(self, ledger: Ledger, runner: StageRunner, pool: Pool, done: list[TrialRecord], progress: Progress) -> None:
        finished = {r.id for r in done}
        recipes = baseline_recipes(self.experiment.space, runner)
        jobs = [_job(f"baseline-{name}", recipe, baseline=name) for name, recipe in recipes.items() if f"baseline-{name}" not in finished]

        def ended(record: TrialRecord) -> None:
            ledger.finish(record)
            done.append(record)

        queue = iter(jobs)
        if jobs:
            pool.run(lambda: _started(ledger, next(queue, None)), ended)
        base = next((r for r in done if r.baseline == UNCOMPRESSED), None)
        if base is None or base.status != "ok":
            raise UserError(f"the uncompressed model cannot be evaluated: {base.reason if base else 'no record'}")
        names = [name for name, metric in self.experiment.objective_metrics if metric.knowledge == "observed"]
        progress.line("baseline: " + ", ".join(f"{n} {base.metrics[n].value:.4g}" for n in names) + f", {base.metrics['parameters'].value:,.0f} parameters")
        if self.experiment.constraints and all(c.satisfied(base.metrics, base.metrics) for c in self.experiment.parsed_constraints):
            progress.line("the uncompressed model already meets every constraint")

    def _search(self, ledger: Ledger, runner: StageRunner, pool: Pool, done: list[TrialRecord], progress: Progress) -> None:
        baselines = {r.baseline: r.metrics for r in sorted(done, key=lambda r: r.id) if r.baseline and r.status == "ok"}
        proposals = Proposals(self.experiment, runner, baselines, UNCOMPRESSED)
        trials = sorted((r for r in done if r.baseline is None), key=lambda r: r.id)
        for record in trials:
            proposals.tell(record)
        left = [job for job in ledger.pending() if job["baseline"] is None]
        numbers = [int(r.id) for r in trials] + [int(job["id"]) for job in left]
        state = {"next": max(numbers, default=0) + 1, "running": 0, "here": 0}
        budget = Budget(self.experiment.search, trials, pool.workers)

        def next_job() -> Job | None:
            job = left.pop(0) if left else proposed()
            if job:
                state["running"] += 1
                ledger.start(job)
            return job

        def proposed() -> Job | None:
            allowed = budget.state([r for r in done if r.baseline is None], state["running"])
            if allowed == "undecided":
                return pool.LATER
            proposal = proposals.next() if allowed == "open" else None
            if proposal is None:
                return None
            values, recipe = proposal
            state["next"] += 1
            return _job(f"{state['next'] - 1:04d}", recipe, values=values)

        def ended(record: TrialRecord) -> None:
            ledger.finish(record)
            done.append(record)
            proposals.tell(record)
            state["here"] += 1
            state["running"] -= 1
            results = Results(self.experiment, tuple(done), self.folder)
            tried = [r for r in done if r.baseline is None]
            front = sum(r.baseline is None for r in results.front_records(split="search"))
            progress.update(len(tried), state["here"], front, results.hypervolume(split="search"), sum(r.status != "ok" for r in tried))

        pool.run(next_job, ended)
        if proposals.screened:
            progress.line(f"{proposals.screened} proposals broke a constraint on known costs and were not trained")

    def _publish(self, ledger: Ledger, prepared: Prepared, pool: Pool, progress: Progress) -> None:
        results = Results.load(self.folder)
        chosen = {r.id: r for r in (*results.front_records(split="search"), *(r for r in results.records if r.baseline and r.status == "ok"))}
        left = [record for record in chosen.values() if not record.report]
        if not left:
            return
        jobs = iter(left)
        progress.line(f"publishing {len(left)} points (front and baselines) on the report split")
        quality = {m.name for m in prepared.task.quality}

        def ended(record: TrialRecord) -> None:
            if record.status == "ok":
                ledger.publish(record.id, {name: value for name, value in record.metrics.items() if name in quality})
            else:
                progress.line(f"{record.id} could not be evaluated on report: {record.reason.splitlines()[-1]}")

        def next_job() -> Job | None:
            record = next(jobs, None)
            return None if record is None else _job(record.id, record.recipe, baseline=record.baseline, values=record.values, split="report")

        pool.run(next_job, ended)

    def _verify(self, ledger: Ledger, prepared: Prepared, pool: Pool, progress: Progress, cache: Cache) -> None:
        verifier = FrontVerifier(prepared, cache, progress.line, self.folder / ARTIFACTS if self._keep else None)
        try:
            # What a demoted point dominated comes to the front in its place, and is verified in its turn.
            while verifier.run(Results.load(self.folder), ledger.verify):
                self._publish(ledger, prepared, pool, progress)
        finally:
            verifier.close()

    def _say(self, results: Results) -> None:
        statuses = ", ".join(f"{count} {status}" for status, count in results.statuses().items())
        front = [r for r in results.front_records() if r.baseline is None]
        print(f"study {self.name}: {statuses or 'no trial'}; {len(front)} of them on the front (report split)")
        print(f"hypervolume {results.hypervolume():.4f}, of the uniform baselines alone {results.hypervolume(which='baselines'):.4f}")
        beating = {r.id: results.dominated_baselines(r.id) for r in front}
        print(f"{sum(bool(b) for b in beating.values())} points each dominate a uniform baseline")
        for line in verified_lines(results):
            print(line)
        print(f"knee: {results.summary()}")
        print(f"see: compareto front {self.folder}; {self.folder}/report.html")


def _job(trial: str, recipe: list[dict[str, Any]], *, values: dict[str, Any] | None = None, baseline: str | None = None, split: str = "search") -> Job:
    return {"id": trial, "recipe": recipe, "values": values or {}, "baseline": baseline, "split": split}


def _started(ledger: Ledger, job: Job | None) -> Job | None:
    if job is not None:
        ledger.start(job)
    return job
