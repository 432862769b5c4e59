"""What a study tries next: the algorithm's points, screened by what is known before any training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compressors.errors import TrialError
from compressors.recipe import Recipe
from evaluators.metric import Estimate
from search.algorithms import algorithm_named
from search.experiment import Experiment
from search.record import TrialRecord
from search.stages import StageRunner

__all__ = ["Proposals"]

_ATTEMPTS = 500


class Proposals:
    """Never a duplicate, never a recipe that breaks a constraint on exact or predicted metrics or does not fit a device's memory.

    Args:
        experiment: space, objectives and constraints.
        runner: prices recipes.
        baseline: metrics of the uncompressed model.
    """

    def __init__(self, experiment: Experiment, runner: StageRunner, baseline: Mapping[str, Estimate]) -> None:
        self._experiment, self._runner, self._baseline = experiment, runner, baseline
        metrics = [metric for _, metric in experiment.objective_metrics]
        self._algorithm = algorithm_named(experiment.search.algorithm, experiment.space, metrics, experiment.search.seed)
        self._tried: set[str] = set()
        self.screened = 0

    def next(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A point and its plain recipe; None where nothing new that is feasible can be found."""
        for _ in range(_ATTEMPTS):
            values = self._algorithm.ask()
            recipe = self._experiment.space.recipe(values)
            if recipe.fingerprint not in self._tried:
                self._tried.add(recipe.fingerprint)
                if self._feasible(recipe):
                    return values, recipe.to_plain()
                self.screened += 1
            self._algorithm.tell(values, None)
        return None

    def tell(self, record: TrialRecord) -> None:
        """Let the algorithm learn from a trial that has ended, in this run or in an earlier one."""
        self._tried.add(Recipe.from_plain(record.recipe).fingerprint)
        names = [name for name, _ in self._experiment.objective_metrics]
        known = record.status == "ok" and all(name in record.metrics for name in names)
        self._algorithm.tell(record.values, [record.metrics[name].value for name in names] if known else None)

    def _feasible(self, recipe: Recipe) -> bool:
        try:
            metrics = self._runner.price(recipe)
        except TrialError:
            return False
        for key, device in self._runner.prepared.devices.items():
            if metrics[f"peak_memory_bytes@{key}"].value > device.memory_bytes:
                return False
        return all(c.satisfied(metrics, self._baseline) for c in self._experiment.parsed_constraints if not c.observed)
