"""Jobs on Ray Tune: warm workers that run whatever a study wants to run next."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping

import ray
from ray import tune

from search.cache import Cache
from search.cluster_check import NodeWatch
from search.preparing import Prepared
from search.resources import TrialResources
from search.trial import CompressionTrial
from search.tuning import Jobs, Losses, Rungs, Work

__all__ = ["Pool"]


class Pool:
    """Warm workers that share the prepared model and data through the object store.

    Args:
        prepared: shared by all jobs.
        cache: of stages.
        workers: jobs at a time.
        resources: of a job.
        code: what every worker must have, see ``search.cluster_code.identity``; None where it cannot have another.
        trial: what a worker is.
    """

    def __init__(
        self,
        prepared: Prepared,
        cache: Cache,
        workers: int,
        resources: TrialResources,
        code: Mapping[str, str] | None = None,
        trial: type[tune.Trainable] = CompressionTrial,
    ) -> None:
        for name, module in sys.modules.items():
            if name.startswith("_compareto_factory_"):
                # Workers cannot import a factory file by its private name: its classes travel by value.
                ray.cloudpickle.register_pickle_by_value(module)
        parameters = tune.with_parameters(trial, prepared=[ray.put(prepared)], cache=cache.settings, threads=resources.threads, code=code)
        self._trainable = tune.with_resources(parameters, resources.reserved())
        self._watch = NodeWatch(resources)
        self.workers = workers

    def run(self, work: Work) -> None:
        """Run jobs until there is no other and all have ended.

        Raises:
            StorageError: a worker or the study cannot write; jobs that were under way then have no record.
        """
        os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Tune's own waits for every trial to end, which takes as long as a training.
        with tempfile.TemporaryDirectory(prefix="compareto-ray-") as folder:
            jobs = Jobs(work)
            searching = tune.TuneConfig(search_alg=jobs, scheduler=Rungs(jobs), num_samples=-1, max_concurrent_trials=self.workers, reuse_actors=True)
            running = tune.RunConfig(
                storage_path=folder,
                verbose=0,
                callbacks=[self._watch, Losses(jobs)],
                failure_config=tune.FailureConfig(max_failures=2),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            )
            tune.Tuner(self._trainable, tune_config=searching, run_config=running).fit()
        if jobs.error is not None:
            raise jobs.error
