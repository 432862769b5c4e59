"""What a study tries next: the algorithm's points, screened by what is known before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressors.compressor import GraphEdit
from compressors.errors import TrialError
from compressors.graph import Shapes
from compressors.recipe import Recipe
from evaluators.metric import Estimate
from search.algorithms import Known, algorithm_named, point_key
from search.box import Box, axis
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
        baselines: metrics of the uniform baselines by name; ``uncompressed`` is one of them.
        uncompressed: what constraints compare with.
    """

    def __init__(self, experiment: Experiment, runner: StageRunner, baselines: Mapping[str, Mapping[str, Estimate]], uncompressed: str) -> None:
        self._experiment, self._runner, self._baseline = experiment, runner, baselines[uncompressed]
        self._run: dict[str, Mapping[str, Estimate]] = {}
        metrics = [metric for _, metric in experiment.objective_metrics]
        known = self._known(baselines)
        self._algorithm = algorithm_named(experiment.search.algorithm, experiment.space, metrics, experiment.search.seed, known)
        self._tried: set[str] = set()
        self.screened = 0

    def next(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A point and its plain recipe; None where nothing new that is feasible can be found."""
        for _ in range(_ATTEMPTS):
            values = self._algorithm.ask()
            recipe = self._experiment.space.recipe(values)
            if recipe.fingerprint not in self._tried:
                self._tried.add(recipe.fingerprint)
                if self._prices([values])[0] is not None:
                    return values, recipe.to_plain()
                self.screened += 1
            self._algorithm.tell(values, None)
        return None

    def tell(self, record: TrialRecord) -> None:
        """Let the algorithm learn from a trial that has ended, in this run or in an earlier one."""
        self._tried.add(Recipe.from_plain(record.recipe).fingerprint)
        names = [name for name, _ in self._experiment.objective_metrics]
        known = record.status == "ok" and all(name in record.metrics for name in names)
        if known:
            self._run[point_key(record.values)] = record.metrics
        self._algorithm.tell(record.values, [record.metrics[name].value for name in names] if known else None)

    def _known(self, baselines: Mapping[str, Mapping[str, Estimate]]) -> Known | None:
        """None where the objectives are not costs and one observed quality."""
        named = self._experiment.objective_metrics
        observed = [i for i, (_, metric) in enumerate(named) if metric.knowledge == "observed"]
        if len(observed) != 1 or len(named) < 2:
            return None
        costs = [(name, metric) for i, (name, metric) in enumerate(named) if i != observed[0]]
        columns = [*costs, named[observed[0]]]
        values = np.array([[row[name].value for name, _ in columns] for row in baselines.values()])
        box = Box.of(columns, values, self._baseline, self._experiment.parsed_constraints)

        def price(points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
            rows = [self._made(values, row) for values, row in zip(points, self._prices(points), strict=True)]
            found = np.array([[np.nan if row is None else row[name].value for row in rows] for name, _ in costs])
            return np.stack([axis(metric, column) for (_, metric), column in zip(costs, found, strict=True)], axis=1)

        return Known(price, observed[0], 1 if named[observed[0]][1].direction == "max" else -1, box.reference, box.scale)

    def _made(self, values: Mapping[str, Any], planned: dict[str, Estimate] | None) -> Mapping[str, Estimate] | None:
        """What a point that was run costs, which is more than planned where a step stopped early; else what is planned."""
        made = self._run.get(point_key(values))
        return planned if made is None else made if self._feasible(made) else None

    def _prices(self, points: Sequence[Mapping[str, Any]]) -> list[dict[str, Estimate] | None]:
        """Exact and predicted metrics of each point; None for one that cannot be planned or breaks a constraint on them."""
        found: list[dict[str, Estimate] | None] = [None] * len(points)
        shapes: list[Shapes] = []
        rows: list[int] = []
        prepared = self._runner.prepared
        for i, values in enumerate(points):
            try:
                edits = self._runner.plan(self._experiment.space.recipe(values))
            except TrialError:
                continue
            shapes.append((edits[-1] if edits else GraphEdit.identity(prepared.graph)).shapes(prepared.graph))
            rows.append(i)
        for i, metrics in zip(rows, prepared.costs(Shapes.concatenate(shapes)) if shapes else [], strict=True):
            if self._feasible(metrics):
                found[i] = metrics
        return found

    def _feasible(self, metrics: Mapping[str, Estimate]) -> bool:
        for key, device in self._runner.prepared.devices.items():
            if metrics[f"peak_memory_bytes@{key}"].value > device.memory_bytes:
                return False
        return all(c.satisfied(metrics, self._baseline) for c in self._experiment.parsed_constraints if not c.observed)
