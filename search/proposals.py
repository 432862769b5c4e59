"""What a study tries next: the algorithm's points, screened by what is known before any training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compressors.compressor import GraphEdit
from compressors.errors import TrialError
from compressors.graph import ModelGraph, Shapes
from compressors.recipe import Recipe, step_class
from evaluators.exit_rates import ExitRates
from evaluators.metric import Estimate, Metric
from search.algorithms import Known, algorithm_named, point_key
from search.algorithms.known_cost import KnownCostSearch
from search.algorithms.screening import Screened
from search.box import Box, axis
from search.exit_beliefs import ExitBeliefs
from search.experiment import Experiment
from search.grouping import in_groups
from search.preparing import Prepared
from search.record import TrialRecord
from search.stages import StageRunner, last_trained

__all__ = ["Proposals"]

_VARIANT = 0.1
"""Of a trial's cost, what follows the training; as in ``search.budget``."""
_REMEMBERED = 8192
"""Plans whose costs are kept."""


class Proposals:
    """Never a duplicate, never a recipe that breaks a constraint on exact or predicted metrics or does not fit a device's memory.

    ``next`` and ``tell`` are called by one thread at a time (``search.ahead.Ahead`` sees to it); the rest may be called at any time.
    Memory counts as it is predicted, not by the upper end of its interval, which few recipes of a small device would pass.

    Args:
        experiment: space, objectives and constraints.
        runner: prices recipes.
        baselines: metrics of the uniform baselines by name; ``uncompressed`` is one of them.
        uncompressed: what constraints compare with.

    Attributes:
        known: costs and box of the problem; None where its objectives are not costs and one observed quality.
    """

    def __init__(self, experiment: Experiment, runner: StageRunner, baselines: Mapping[str, Mapping[str, Estimate]], uncompressed: str) -> None:
        self._experiment, self._runner, self._baseline = experiment, runner, baselines[uncompressed]
        self._run: dict[str, Mapping[str, Estimate] | None] = {}
        metrics = [metric for _, metric in experiment.objective_metrics]
        self._observed = [i for i, metric in enumerate(metrics) if metric.knowledge == "observed"]
        self.known = known = self._known(baselines)
        spec = experiment.search
        self._algorithm = algorithm_named(spec.algorithm, experiment.space, metrics, spec.seed, known)
        self._search = Screened(self._algorithm, spec.algorithm, experiment.space, self._is_new, self._fits, spec.seed)
        self._tried: set[str] = set()
        self._planned: dict[str, dict[str, Estimate] | None] = {}
        self._beliefs = ExitBeliefs(runner)

    def next(self) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
        """A point and its plain recipe; None where nothing new that is feasible can be found."""
        values = self._search.ask()
        if values is None:
            return None
        recipe = self._experiment.space.recipe(values)
        self._tried.add(recipe.fingerprint)
        return values, recipe.to_plain()

    @property
    def screened(self) -> int:
        """How many proposals broke a constraint."""
        return self._search.refused

    def tell(self, record: TrialRecord, expected: tuple[float, float] | None = None) -> None:
        """Let the algorithm learn from a trial that has ended, in this run or in an earlier one.

        Args:
            record: of it. What was measured with a part of the training budget never counts as quality.
            expected: of a trial that was stopped there: mean and standard deviation of the quality that it would have come to. The known-cost search learns
                from it, but never counts the point as held; the other algorithms take a stopped trial for a failed one.
        """
        self._tried.add(Recipe.from_plain(record.recipe).fingerprint)
        if record.origin and not record.values:
            # Of another study, whose recipe is no point of this space.
            return
        rates = ExitRates.from_plain(record.candidate.get("exits"))
        if rates is not None and record.rung >= 1:
            self._beliefs.learn(rates)
            self._planned.clear()
        names = [name for name, _ in self._experiment.objective_metrics]
        if record.status == "ok" and record.rung >= 1 and all(name in record.metrics for name in names):
            self._run[point_key(record.values)] = record.metrics if self._feasible(record.metrics) else None
            # The interval of a quality is that of its examples, which trials share: what differs between two trainings is for the search to learn.
            self._search.tell(record.values, [record.metrics[name].value for name in names])
        elif record.status == "stopped" and expected is not None and isinstance(self._algorithm, KnownCostSearch):
            self._run[point_key(record.values)] = None
            objectives = np.full(len(names), np.nan)
            objectives[self._observed[0]] = expected[0]
            self._search.tell(record.values, objectives.tolist(), expected[1])
        else:
            self._search.tell(record.values, None)

    def coordinates(self, metrics: Mapping[str, Estimate], observed: Mapping[str, float] | None = None) -> tuple[list[float], float]:
        """A record's known objectives, smaller is better, and its quality, larger is better; the latter from ``observed`` where that is given."""
        name, _ = self.quality
        costs = [float(np.mean([axis(metric, np.array([metrics[n].value])) for n, metric in group])) for group in self._cost_groups]
        return costs, self.sign * (metrics[name].value if observed is None else observed[name])

    def graph(self, record: TrialRecord) -> ModelGraph:
        """That a record's costs are of: the trace at the size of its inputs."""
        return self._runner.at(Recipe.from_plain(record.recipe)).graph

    @property
    def quality(self) -> tuple[str, Metric]:
        """The one objective that is observed."""
        return self._experiment.objective_metrics[self._observed[0]]

    @property
    def sign(self) -> int:
        """1 where a larger quality is better, else -1."""
        return 1 if self.quality[1].direction == "max" else -1

    @property
    def _cost_groups(self) -> list[tuple[tuple[str, Metric], ...]]:
        """The known objectives. One that means each of several devices counts by the mean of its coordinates there, whatever the number of devices."""
        groups = [self._experiment.names.on([name]) for name in self._experiment.objectives]
        return [group for group in groups if group[0][1].knowledge != "observed"]

    def _known(self, baselines: Mapping[str, Mapping[str, Estimate]]) -> Known | None:
        """None where the objectives are not costs and one observed quality."""
        named = self._experiment.objective_metrics
        observed = self._observed
        if len(observed) != 1 or len(named) < 2:
            return None
        costs = [named_metric for group in self._cost_groups for named_metric in group]
        ends = np.cumsum([0, *map(len, self._cost_groups)])

        def grouped(columns: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.stack([columns[..., i:j].mean(axis=-1) for i, j in pairwise(ends)], axis=-1)

        columns = [*costs, named[observed[0]]]
        values = np.array([[row[name].value for name, _ in columns] for row in baselines.values()])
        box = Box.of(columns, values, self._baseline, self._experiment.parsed_constraints)

        def price(points: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
            rows = self._made(points)
            found = np.array([[np.nan if row is None else row[name].value for row in rows] for name, _ in costs])
            return grouped(np.stack([axis(metric, column) for (_, metric), column in zip(costs, found, strict=True)], axis=1))

        # Every trial counts as one in a budget of trials: there a cheap variant is worth no more than another trial.
        stages = None if self._experiment.search.trials is not None else self._stages
        sign: Literal[1, -1] = 1 if named[observed[0]][1].direction == "max" else -1
        reference, scale = (np.append(grouped(edges[:-1]), edges[-1]) for edges in (box.reference, box.scale))
        return Known(price, observed[0], sign, reference, scale, stages)

    def _is_new(self, values: Mapping[str, Any]) -> bool:
        return self._experiment.space.recipe(values).fingerprint not in self._tried

    def _fits(self, points: Sequence[Mapping[str, Any]]) -> list[bool]:
        return [row is not None for row in self._prices(points)]

    def _stages(self, points: Sequence[Mapping[str, Any]]) -> list[list[tuple[str, float]]]:
        """The training of each point, up to the last step that trains, and what follows; by this study's trials, whatever the cache holds."""
        found = []
        for values in points:
            recipe = self._experiment.space.recipe(values)
            last = last_trained(recipe)
            whole = (recipe.fingerprint, _VARIANT if last >= 0 else 1.0)
            found.append([(Recipe(recipe.steps[: last + 1]).trained + " trained", 1 - _VARIANT), whole] if last >= 0 else [whole])
        return found

    def _made(self, points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Estimate] | None]:
        """What points that were run cost, which is more than planned where a step stopped early, None where training was stopped; else what is planned."""
        keys = [point_key(values) for values in points]
        planned = iter(self._prices([values for key, values in zip(keys, points, strict=True) if key not in self._run]))
        return [self._run[key] if key in self._run else next(planned) for key in keys]

    def _prices(self, points: Sequence[Mapping[str, Any]]) -> list[dict[str, Estimate] | None]:
        """Exact and predicted metrics of each point; None for one that cannot be planned or breaks a constraint on them."""
        keys = [point_key({name: value for name, value in values.items() if name not in self._free}) for values in points]
        known = {key: self._planned[key] for key in keys if key in self._planned}
        new = {key: values for key, values in zip(keys, points, strict=True) if key not in known}
        whole: dict[str, tuple[GraphEdit, Prepared]] = {}
        exiting: dict[str, tuple[GraphEdit, Recipe]] = {}
        for key, values in new.items():
            recipe = self._experiment.space.recipe(values)
            try:
                edits, prepared = self._runner.plan(recipe), self._runner.at(recipe)
            except TrialError:
                continue
            edit = edits[-1] if edits else GraphEdit.identity(prepared.graph)
            if edit.exits is not None:
                exiting[key] = edit, recipe
            else:
                whole[key] = edit, prepared
        # Graphs of other sizes of inputs have other axes: candidates are priced together where they have one.
        costs = dict(zip(whole, in_groups(list(whole.values()), lambda one: id(one[1]), _costs), strict=True))
        found = {key: costs[key] if key in costs and self._feasible(costs[key]) else None for key in new}
        # Only what exits cannot cost is refused: what they do is seen when they are trained.
        found |= {key: believed if self._feasible(least) else None for key, (believed, least) in self._beliefs.priced(exiting).items()}
        if len(self._planned) > _REMEMBERED:
            # What the next proposals start from is among the latest.
            self._planned = dict(list(self._planned.items())[_REMEMBERED // 2 :])
        self._planned |= found
        return [known[key] if key in known else found[key] for key in keys]

    @cached_property
    def _free(self) -> frozenset[str]:
        """Dimensions on which no plan, and so no cost, depends."""
        space = self._experiment.space
        within = [path for path, name, _ in space.steps() if not step_class(name).plans()]
        return frozenset(d.name for d in space.dimensions if any(d.path[: len(path)] == path for path in within))

    def _feasible(self, metrics: Mapping[str, Estimate]) -> bool:
        for key, device in self._runner.prepared.devices.items():
            if metrics[f"peak_memory_bytes@{key}"].value > device.memory_bytes:
                return False
        return all(c.satisfied(metrics, self._baseline) for c in self._experiment.parsed_constraints if not c.observed)


def _costs(candidates: list[tuple[GraphEdit, Prepared]]) -> list[dict[str, Estimate]]:
    """Of candidates of one graph."""
    prepared = candidates[0][1]
    return prepared.costs(Shapes.concatenate([edit.shapes(prepared.graph) for edit, _ in candidates]))
