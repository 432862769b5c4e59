"""Ask and tell: a search of one's own problem with the algorithms of a study, without a study, Ray or files.

For example::

    searcher = compareto.optimizer("auto", {"ratio": {"uniform": [0, 0.9]}, "bits": {"choice": [4, 8]}}, costs, ["size <= 0.4"])
    for candidate in searcher.ask(4):
        searcher.tell(candidate, train(candidate))
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from compressors.errors import UserError, near_miss
from evaluators.metric import Metric
from search.algorithms import algorithm_named
from search.algorithms.algorithm import Known, point_key
from search.algorithms.cost_problem import CandidateRule, CostFunction, CostProblem, flat_space
from search.algorithms.known_cost import KnownCostSearch
from search.algorithms.screening import Screened
from search.algorithms.stage_rule import Stages

__all__ = ["Optimizer", "optimizer"]

Name = Literal["auto", "random", "nsga2", "tpe", "gp", "grid"]
_VERSION = 2


class Optimizer:
    """Proposes candidates that are new and feasible, and learns from what came of them. Made by ``compareto.optimizer``."""

    def __init__(self, algorithm: Name, problem: CostProblem, seed: int, stages: Stages | None = None) -> None:
        self._name, self._problem, self._seed = algorithm, problem, seed
        self._asked: set[str] = set()
        self._log: list[list[Any]] = []
        reference, scale = problem.box()
        known = Known(problem.prices, 0, 1, np.append(reference, -problem.floor), np.append(scale, 1.0), stages)
        metrics = [Metric("quality", "", "max", "observed"), *(Metric(name, "", "min", "exact") for name in problem.names)]
        self._algorithm = algorithm_named(algorithm, problem.space, metrics, seed, known)
        self._search = Screened(self._algorithm, algorithm, problem.space, self._is_new, lambda points: problem.feasible(points).tolist(), seed)

    def ask(self, n: int = 1) -> list[dict[str, Any]]:
        """``n`` candidates; fewer where no more are found that are new and keep every constraint.

        Raises:
            UserError: ``n`` is no positive integer, or the cost function fails its contract.
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise UserError(f"ask({n!r}): accepted: an integer of at least 1")
        self._log.append(["ask", n])
        found = []
        for _ in range(n):
            candidate = self._next()
            if candidate is None:
                break
            self._asked.add(point_key(candidate))
            found.append(candidate)
        return found

    def tell(self, candidate: Mapping[str, Any], quality: float | None, std: float | None = None) -> None:
        """What came of a candidate, which need not have been asked for; the same may be told again, as another observation.

        Args:
            candidate: a value for each name of the space.
            quality: larger is better; None where the evaluation failed.
            std: standard deviation of the quality's noise, None where it is not known.

        Raises:
            UserError: the candidate is not in the space, or a number is not finite.
        """
        point = self._problem.space.normalise(candidate)
        if quality is not None and not math.isfinite(quality):
            raise UserError(f"tell: the quality of {point} is {quality}; accepted: a finite number, or None for a failure")
        if std is not None and not (math.isfinite(std) and std >= 0):
            raise UserError(f"tell: std of {point} is {std}; accepted: a finite number of at least 0, or None where it is not known")
        costs = self._problem.prices([point])[0]
        # A candidate that breaks a constraint has a quality to learn from, but no place on a front: only the known-cost search can tell these apart.
        usable = quality is not None and (bool(np.isfinite(costs).all()) or isinstance(self._algorithm, KnownCostSearch))
        objectives = [float(quality), *costs.tolist()] if quality is not None and usable else None
        self._log.append(["tell", point, None if quality is None else float(quality), None if std is None else float(std)])
        self._asked.add(point_key(point))
        self._search.tell(point, objectives, std)

    def state(self) -> dict[str, Any]:
        """Everything that the next candidates depend on, as plain data for JSON; the problem itself is not in it."""
        state: dict[str, Any] = {"version": _VERSION, "algorithm": self._name, "seed": self._seed, "dimensions": self._dimensions()}
        if isinstance(self._algorithm, KnownCostSearch):
            inside = self._algorithm.state()
            return {**state, "search": json.loads(json.dumps(inside))}
        return {**state, "log": json.loads(json.dumps(self._log))}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()`` of another one of the same algorithm, problem and seed, at once; peers ask and tell again what was.

        Raises:
            UserError: it is of another algorithm, space or seed, or this optimizer was used already.
        """
        if self._log:
            raise UserError("restore: this optimizer was used already; make a new one")
        mine = {"version": _VERSION, "algorithm": self._name, "seed": self._seed, "dimensions": self._dimensions()}
        differing = [name for name, value in mine.items() if state.get(name) != value]
        if differing:
            raise UserError(f"restore: the state has another {', '.join(differing)} than this optimizer")
        if isinstance(self._algorithm, KnownCostSearch):
            self._algorithm.restore(state["search"])
            self._asked = set(self._algorithm.seen)
            self._log.append(["restore"])
            return
        for what, *arguments in state["log"]:
            (self.ask if what == "ask" else self.tell)(*arguments)

    def _next(self) -> dict[str, Any] | None:
        size = self._problem.space.size
        return None if size is not None and len(self._asked) >= size else self._search.ask()

    def _is_new(self, candidate: Mapping[str, Any]) -> bool:
        return point_key(candidate) not in self._asked

    def _dimensions(self) -> list[list[Any]]:
        return [[d.name, d.kind, list(d.choices), d.low, d.high] for d in self._problem.space.dimensions]


def optimizer(
    algorithm: str,
    space: Mapping[str, Any],
    costs: CostFunction,
    constraints: Sequence[str | CandidateRule] = (),
    seed: int = 0,
    *,
    stages: Stages | None = None,
) -> Optimizer:
    """Search for the candidates with the best quality at every cost, where costs are known before anything is evaluated.

    Args:
        algorithm: ``auto`` (models quality alone and takes costs as they are), or for comparison ``random``, ``grid``, and Optuna's ``nsga2``, ``tpe``, ``gp``.
        space: names with ranges, as in an experiment: ``{"choice": [...]}`` (numbers are ordered, strings are not), ``{"uniform": [a, b]}``,
            ``{"loguniform": [a, b]}`` or ``{"int": [a, b]}``.
        costs: takes a list of candidates and returns ``{name: array}``, ``[candidates]`` each, all to be minimised. Gains are measured on the scale that it
            returns: return logarithms where ratios matter.
        constraints: what every candidate keeps: expressions over costs such as ``"size <= 0.4"``, or functions of a candidate that say whether it is allowed;
            and ``"quality >= 0.9"``, below which a candidate may be evaluated, but is of no use.
        seed: of everything random.
        stages: takes a list of candidates and returns of each its stages, ``[(what it computes, cost), ...]``, where what was computed for one that was
            evaluated is free for others: ``auto`` then takes cheap variants of those where they promise enough. For budgets of cost, not of evaluations.

    Raises:
        UserError: an unknown algorithm, a malformed range or constraint, or costs that are not finite or not one for each candidate.
    """
    if algorithm not in get_args(Name):
        raise UserError(f"unknown algorithm {algorithm!r}; accepted: {', '.join(get_args(Name))}{near_miss(str(algorithm), get_args(Name))}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed {seed!r} is not accepted; accepted: an integer of at least 0")
    if not callable(costs):
        raise UserError(f"costs: expected a function of a list of candidates, got {type(costs).__name__}")
    if stages is not None and not callable(stages):
        raise UserError(f"stages: expected a function of a list of candidates, got {type(stages).__name__}")
    if isinstance(constraints, str) or callable(constraints):
        constraints = (constraints,)
    name: Name = algorithm  # type: ignore[assignment]  # checked above
    return Optimizer(name, CostProblem(flat_space(space), costs, tuple(constraints), seed), seed, stages)
