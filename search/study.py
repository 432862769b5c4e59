"""A study: one experiment's search from the first baseline to the published front."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from compressors.errors import StorageError, UserError
from compressors.graph.stored import graph_json
from evaluators.cache_folder import local_folder
from search.ahead import Ahead
from search.baselines import baseline_recipes
from search.budget import Budget
from search.cache import Cache
from search.cluster_address import address_of, require_reachable
from search.experiment import Experiment
from search.front_formats import write_exports
from search.front_summary import front_summaries, spread_lines, technique_lines
from search.front_table import verified_lines
from search.front_verification import FrontVerifier
from search.in_turn import InTurn
from search.interrupting import interrupted_by_termination
from search.job import new_job
from search.ledger import Ledger
from search.mirror import Mirror
from search.phases import Phases
from search.preparing import Prepared, prepare
from search.progress import Progress
from search.promotion import Promotion
from search.proposals import Proposals
from search.publishing import Deadline, publish
from search.quantities import counted
from search.record import TrialRecord
from search.replay import Recorded, differences, recorded_trials, with_budget_of
from search.results import UNCOMPRESSED, Results
from search.running_front import RunningFront
from search.searching import Search
from search.stages import StageRunner
from search.study_files import ARTIFACTS, STORAGE, find_study
from search.warm_start import adopted, identity_of, require_same_model

if TYPE_CHECKING:
    from search.running import Pool
    from search.tuning import Work

__all__ = ["Study"]


class Study:
    """Runs an experiment in a folder of its own.

    Args:
        experiment: what to search.
        name: of the study; EXPERIMENT-TIMESTAMP where None.
        storage: folder or URI of studies; in an object store a study is worked on in a folder of this machine and written through, see ``search.mirror``.
        resume: continue the study of this name.
        address: of an existing Ray cluster; None starts Ray here.
        keep_artifacts: keep those of the front's points, in ``artifacts`` in the study's folder, which the verification makes.
        cache: folder or URI of computed stages; see ``search.cache.Cache``.
        source: another study of the same model and data, by name or folder, whose trials are taken over; see ``search.warm_start``.
        replay: a study of the same space, by name or folder, whose proposals are repeated in their order.

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
        cache: str | Path | None = None,
        source: str | None = None,
        replay: str | None = None,
    ) -> None:
        self.experiment = experiment
        self.name = name or f"{experiment.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
        if self.name.startswith(".") or Path(self.name).name != self.name:
            raise UserError(f"--name {self.name!r} cannot be a folder of studies; accepted: a name without '/' that does not start with '.'")
        where = local_folder(storage)
        self._mirror = Mirror(f"{str(storage).rstrip('/')}/{self.name}") if where is None else None
        if self._mirror is not None:
            self.folder = self._mirror.folder
        else:
            self.folder = (where if where is not None and "://" in str(storage) else Path(storage)) / self.name
        if keep_artifacts and not experiment.search.verify:
            raise UserError("--keep-artifacts: artifacts are made when the front is verified, which search.verify: false or --no-verify leaves out")
        self._source, self._replay, self._storage = source, replay, storage
        self._recorded: tuple[TrialRecord, ...] = ()
        if source is not None:
            find_study(source, storage)
        if replay is not None:
            self._recorded = recorded_trials(replay, storage, experiment)
            self.experiment = with_budget_of(experiment, self._recorded)
        self._resume, self._address, self._keep = resume, address_of(address), keep_artifacts
        self._cache = cache

    @property
    def place(self) -> str:
        """Folder or URI of the study."""
        return str(self.folder) if self._mirror is None else self._mirror.uri

    def run(self) -> Results:
        """Search, publish the front on ``report``, verify its points, write trials.jsonl, front.csv and report.html.

        Raises:
            UserError: the study exists, is another experiment's, is being written by another process, no cluster answers at the address, or model or
                data are wrong. A study that got no record is then removed, so that its name is free.
        """
        if self._address is not None:
            require_reachable(self._address)
        ledger = (Ledger.resume if self._resume else Ledger.create)(self.folder, self.experiment, self._mirror)
        try:
            return self._run(ledger)
        except Exception as error:
            if not self._resume:
                ledger.discard()
            if isinstance(error, StorageError) and self.folder.is_dir():
                print(f"what has ended is kept: continue with --name {self.name} --resume once there is room")
            raise
        finally:
            ledger.close()

    def _run(self, ledger: Ledger) -> Results:
        from search.cluster import connected
        from search.cluster_check import alive_nodes, check_nodes, with_gpu_memory
        from search.cluster_code import identity
        from search.resources import trial_resources
        from search.running import Pool
        from search.trial_memory import trial_memory

        done = list(ledger.records())
        cache = Cache(self._cache)
        with Progress(self.experiment.search.trials) as progress, connected(self._address) as resources, interrupted_by_termination():
            spec = self.experiment.search
            gpus = resources.get("GPU", 0)
            progress.line(f"study {self.place}: {resources.get('CPU', 1):.0f} CPU cores, {f'{gpus:.0f} GPUs' if gpus else 'no accelerator found'}")
            nodes = alive_nodes()
            asked = trial_resources(spec, nodes)
            able = [node for node in nodes if asked.room([node])]
            nodes = check_nodes(able) if self._address is not None else with_gpu_memory(nodes)
            prepared = prepare(self.experiment, cache, progress.line)
            ledger.describe(identity_of(prepared), graph_json(prepared.graph))
            if self._replay is not None:
                require_same_model(find_study(self._replay, self._storage), prepared, "--replay")
            runner = StageRunner(prepared, cache)
            taken = list(adopted(self._source, self._storage, prepared, progress.line, runner.at)) if self._source is not None else []
            memory = trial_memory(prepared)
            asked = trial_resources(spec, nodes, memory.own, memory.gpu)
            pool = Pool(prepared, cache, spec.workers or asked.room(nodes), asked, identity() if self._address else None)
            progress.line(f"{pool.workers} trials at a time on {counted(len(nodes), 'node')}, each with {asked}")
            works = self._works(ledger, runner, pool.workers, done, taken, progress)
            try:
                pool.run(Phases(works))
                if spec.verify:
                    self._verify(ledger, prepared, pool, progress, cache)
            except KeyboardInterrupt:
                self._interrupted()
                raise
            finally:
                works.close()
        results = Results.load(self.folder)
        write_exports(results, self.folder)
        self._say(results)
        if cache.complaint:
            print(cache.complaint)
        return results

    def _interrupted(self) -> None:
        """Leave the front so far where people look for it, and say how to go on."""
        results = Results.load(self.folder)
        if results.uncompressed is not None:
            write_exports(results, self.folder)
            self._say(results)
        print(f"interrupted; what has ended is kept: continue with --name {self.name} --resume")

    def _works(
        self, ledger: Ledger, runner: StageRunner, workers: int, done: list[TrialRecord], taken: Iterable[TrialRecord], progress: Progress
    ) -> Generator[Work]:
        """What there is to run before the front is verified."""
        yield from self._baselines(ledger, runner, done, progress)
        for record in taken:
            if record.id not in {r.id for r in done}:
                ledger.finish(record)
                done.append(record)
        yield from self._search(ledger, runner, workers, done, progress)
        yield from self._publish(ledger, progress)

    def _baselines(self, ledger: Ledger, runner: StageRunner, done: list[TrialRecord], progress: Progress) -> Iterator[Work]:
        finished = {r.id for r in done}
        recipes = baseline_recipes(self.experiment.space, runner)
        jobs = [new_job(f"baseline-{name}", recipe, baseline=name) for name, recipe in recipes.items() if f"baseline-{name}" not in finished]

        def ended(record: TrialRecord) -> None:
            ledger.finish(record)
            done.append(record)

        if jobs:
            progress.line(f"{counted(len(jobs), 'baseline')}: {', '.join(str(job['baseline']) for job in jobs)}")
            yield InTurn(jobs, ended, start=ledger.start)
        base = next((r for r in done if r.baseline == UNCOMPRESSED), None)
        if base is None or base.status != "ok":
            raise UserError(f"the uncompressed model cannot be evaluated: {base.reason if base else 'no record'}")
        names = [name for name, metric in self.experiment.objective_metrics if metric.knowledge == "observed"]
        progress.line("baseline: " + ", ".join(f"{n} {base.metrics[n].value:.4g}" for n in names) + f", {base.metrics['parameters'].value:,.0f} parameters")
        if self.experiment.constraints and all(c.satisfied(base.metrics, base.metrics) for c in self.experiment.parsed_constraints):
            progress.line("the uncompressed model already meets every constraint")

    def _search(self, ledger: Ledger, runner: StageRunner, workers: int, done: list[TrialRecord], progress: Progress) -> Iterator[Work]:
        progress.searching()
        spec = self.experiment.search
        front = RunningFront(self.experiment)
        baselines = sorted((r for r in done if r.baseline), key=lambda r: r.id)
        for record in baselines:
            front.add(record)
        proposals = Proposals(self.experiment, runner, {str(r.baseline): r.metrics for r in baselines if r.status == "ok"}, UNCOMPRESSED)
        promotion = None
        if spec.rungs and proposals.known is not None:
            promotion = Promotion(spec.rungs, floor=-float(proposals.known.reference[-1]))
            for record in baselines:
                if record.status == "ok":
                    promotion.ended(record.id, *proposals.coordinates(record.metrics))
        trials = [r for r in done if r.baseline is None]
        pending = [job for job in ledger.pending() if job["baseline"] is None]
        asked: Proposals | Recorded = proposals
        if self._replay is not None:
            asked = Recorded(proposals, self._recorded, {*(r.id for r in trials), *(job["id"] for job in pending)})
        # One worker waits for what its trial has found; of several, some are always under way.
        ahead = Ahead(asked.next, asked.tell, 0 if workers == 1 else -(-workers // 4))
        budget = Budget(spec, [r for r in trials if not r.origin], workers, front=lambda: front.size)
        self._deadline = Deadline(budget.deadline, budget.pace)
        search = Search(proposals, ahead, budget, ledger, front, promotion, progress)
        search.take_over(trials, pending)
        try:
            # The cores are for trials: more threads for small matrices would wait for one another.
            with threadpool_limits(1):
                yield search
        finally:
            ahead.close()
        if proposals.screened:
            progress.line(f"{proposals.screened} proposals broke a constraint on known costs and were not trained")

    def _publish(self, ledger: Ledger, progress: Progress) -> Iterator[Work]:
        return publish(lambda: Results.load(self.folder), ledger, progress.line, self._deadline)

    def _verify(self, ledger: Ledger, prepared: Prepared, pool: Pool, progress: Progress, cache: Cache) -> None:
        verifier = FrontVerifier(prepared, cache, progress.line, self.folder / ARTIFACTS if self._keep else None)
        try:
            # What a demoted point dominated comes to the front in its place, and is verified in its turn.
            while verifier.run(Results.load(self.folder), ledger.verify):
                for work in self._publish(ledger, progress):
                    pool.run(work)
        finally:
            verifier.close()

    def _say(self, results: Results) -> None:
        statuses = ", ".join(f"{count} {status}" for status, count in results.statuses().items())
        front = [r for r in results.front_records() if r.baseline is None]
        print(f"study {self.name}: {statuses or 'no trial'}; {len(front)} of them on the front (report split)")
        print(f"hypervolume {results.hypervolume():.4f}, of the uniform baselines alone {results.hypervolume(which='baselines'):.4f}")
        beating = {r.id: results.dominated_baselines(r.id) for r in front}
        print(f"{sum(bool(b) for b in beating.values())} points each dominate a uniform baseline")
        for line in (*front_summaries(results), *technique_lines(results), *spread_lines(results), *verified_lines(results)):
            print(line)
        if self._replay is not None:
            differing = differences(self._recorded, results.records)
            print(f"replay of {self._replay}: {len(self._recorded)} trials, {'no metric differs' if not differing else f'{len(differing)} differences'}")
            print("".join(f"  {line}\n" for line in differing[:20]), end="")
        print(f"knee: {results.summary()}")
        print(f"see: compareto front {self.place}; {self.place}/report.html")
