"""NSGA-II [Deb2002], multi-objective TPE [Ozaki2022] and a Gaussian process on every objective, through Optuna."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from evaluators.metric import Metric
from search.algorithms.algorithm import Algorithm, point_key
from search.space import Space

__all__ = ["OptunaSearch"]


class OptunaSearch(Algorithm):
    """An Optuna study in memory.

    Args:
        space: what to search; dimensions that do not count at a point are not asked for.
        objectives: with their directions.
        sampler: ``nsga2`` (population 16, for budgets of dozens), ``tpe`` or ``gp``.
        seed: of the sampler.
        floor: position of the observed objective, its sign, and what its value with that sign must reach: a constraint for the sampler. None without one.
    """

    def __init__(
        self, space: Space, objectives: Sequence[Metric], sampler: Literal["nsga2", "tpe", "gp"], seed: int, floor: tuple[int, int, float] | None = None
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space, self._floor = space, floor
        with warnings.catch_warnings():
            # Multivariate TPE is marked experimental; it is what Optuna recommends for dependent dimensions.
            warnings.simplefilter("ignore")
            chosen: Any
            if sampler == "nsga2":
                chosen = optuna.samplers.NSGAIISampler(population_size=16, seed=seed)
            elif sampler == "gp":
                chosen = optuna.samplers.GPSampler(n_startup_trials=12, seed=seed)
            else:
                chosen = optuna.samplers.TPESampler(multivariate=True, group=True, n_startup_trials=12, constant_liar=True, seed=seed)
        directions = ["minimize" if m.direction == "min" else "maximize" for m in objectives]
        self._study = optuna.create_study(sampler=chosen, directions=directions)
        self._open: dict[str, Any] = {}

    def ask(self) -> dict[str, Any]:
        """A point from the sampler."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trial = self._study.ask()
            point: dict[str, Any] = {}
            for dimension in self._space.dimensions:
                if not dimension.counts(point):
                    continue
                if dimension.kind == "choice" and not dimension.ordinal:
                    index = trial.suggest_categorical(dimension.name, list(range(len(dimension.choices))))
                    value = dimension.choices[index]
                elif dimension.kind == "choice":
                    value = dimension.choices[trial.suggest_int(dimension.name, 0, len(dimension.choices) - 1)]
                elif dimension.kind == "int":
                    value = trial.suggest_int(dimension.name, int(dimension.low), int(dimension.high))
                else:
                    value = dimension.decode(
                        dimension.encode(trial.suggest_float(dimension.name, dimension.low, dimension.high, log=dimension.kind == "loguniform"))
                    )
                point[dimension.name] = value
        point = self._space.normalise(point)
        self._open[point_key(point)] = trial
        return point

    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None, std: float | None = None) -> None:  # noqa: ARG002  # these samplers know no noise
        """Complete the trial that proposed ``values``; one from elsewhere (a resumed study) is added."""
        import optuna

        trial = self._open.pop(point_key(values), None)
        if trial is None:
            self._study.enqueue_trial(self._parameters(values), skip_if_exists=False)
            self.ask()
            trial = self._open.pop(point_key(values), None)
            if trial is None:
                return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if objectives is None:
                self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                if self._floor is not None:
                    position, sign, least = self._floor
                    trial.set_constraint("quality", least - sign * objectives[position])
                self._study.tell(trial, list(objectives))

    def _parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {d.name: d.choices.index(values[d.name]) if d.kind == "choice" else values[d.name] for d in self._space.dimensions if d.name in values}
