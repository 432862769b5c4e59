"""Bayesian search for problems of which only the quality is unknown: expected hypervolume improvement with exact costs.

One Gaussian process on quality, refitted to what was told; points that are still being evaluated count with what it believes of them [Ginsbourger2010];
where evaluations fail, a second one says how likely a point is not to. Everything follows from the seed, the number of points asked for and what was told, so
that its state is plain data and a restored search proposes the same.

[Ginsbourger2010] D. Ginsbourger, R. Le Riche, L. Carraro. Kriging is well-suited to parallelize optimization. In: Computational Intelligence in Expensive
    Optimization Problems, Springer 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

from search.algorithms.algorithm import Algorithm, Known, point_key
from search.algorithms.candidates import Candidates
from search.algorithms.encoding import Encoding
from search.algorithms.gaussian_process import GaussianProcess, fitted, standard
from search.algorithms.improvement import expected_improvement
from search.algorithms.informative import informative
from search.algorithms.random_search import drawn
from search.algorithms.stage_rule import StageRule
from search.algorithms.warped import LogOdds, Warped
from search.pareto import non_dominated
from search.space import Space

__all__ = ["KnownCostSearch"]

_Array = NDArray[np.float64]
_SOBOL = 256
_FEWEST = 3
_ALWAYS, _EVERY = 60, 20
"""Hyperparameters are fitted after every point while there are few, then after every so many."""
_DOUBT = 0.12
"""Spread that is added to the prediction of whether a point fails."""


class _Told(NamedTuple):
    """A point that came back; ``quality`` is larger the better, None where it failed."""

    point: dict[str, Any]
    quality: float | None
    std: float
    code: _Array


@dataclass(frozen=True)
class _Belief:
    """What is believed after all that was told.

    Attributes:
        quality: predicts it from features.
        success: predicts from features whether evaluations work, None where all do.
        front: ``[points, costs + 1]``, costs and negated quality.
        parents: codes of the points on it, ``[points, dimensions]``.
        reference, scale: of the box in which points count.
    """

    quality: Warped
    success: GaussianProcess | None
    front: _Array
    parents: _Array
    reference: _Array
    scale: _Array

    def gain(self, features: _Array, costs: _Array) -> _Array:
        """Expected improvement of candidates, -1 for those that must not be."""
        found = expected_improvement(costs, *self.quality.predict(features), self.front, self.reference, self.scale)
        if self.success is not None:
            mean, deviation = self.success.predict(features)
            found = found * ndtr((mean - 0.5) / np.hypot(deviation, _DOUBT))
        return np.where(np.isfinite(costs).all(axis=1), found, -1.0)


class KnownCostSearch(Algorithm):
    """One Gaussian process on quality, exact arithmetic on everything else.

    Args:
        space: what to search.
        known: the costs, the box in which they and quality count, and which objective quality is.
        seed: of initial points and candidates.
    """

    def __init__(self, space: Space, known: Known, seed: int) -> None:
        self._space, self._known, self._seed = space, known, seed
        self._encoding = Encoding(space)
        self._candidates = Candidates(self._encoding, known.costs)
        self._stages = None if known.stages is None else StageRule(known.stages, self._encoding, seed)
        self._initial = max(8, len(space.dimensions) + 3)
        self._asks = self._spread_to = 0
        self._asked: dict[str, dict[str, Any]] = {}
        self._seen: set[str] = set()
        self._told: list[_Told] = []
        self._thetas: dict[str, tuple[int, _Array]] = {}

    def ask(self) -> dict[str, Any]:
        """A point that fits every known constraint and was not asked before, where one can be found."""
        rng = np.random.default_rng([self._seed, self._asks])
        self._asks += 1
        qualities = sum(told.quality is not None for told in self._told)
        early = qualities + len(self._asked) < self._initial or qualities < _FEWEST
        point = (None if early else self._best(rng)) or self._spread(rng)
        self._seen.add(point_key(point))
        self._asked[point_key(point)] = point
        return point

    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None, std: float | None = None) -> None:
        """Only the quality among ``objectives`` is used: the others are known."""
        quality = None if objectives is None else self._known.sign * float(objectives[self._known.quality])
        self._learn(dict(values), quality, std or 0.0)

    @property
    def seen(self) -> frozenset[str]:
        """Keys of the points that were asked for or told: JSON with sorted names."""
        return frozenset(self._seen)

    def state(self) -> dict[str, Any]:
        """Everything that the next points depend on, as plain data."""
        told = [[told.point, told.quality, told.std] for told in self._told]
        thetas = {name: [count, theta.tolist()] for name, (count, theta) in self._thetas.items()}
        return {"asks": self._asks, "spread_to": self._spread_to, "told": told, "pending": list(self._asked.values()), "thetas": thetas}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()`` of a search of the same space, costs and seed."""
        self._asks, self._spread_to = int(state["asks"]), int(state["spread_to"])
        for point, quality, std in state["told"]:
            self._learn(dict(point), None if quality is None else float(quality), float(std))
        self._asked = {point_key(point): dict(point) for point in state["pending"]}
        self._seen |= set(self._asked)
        self._thetas = {name: (int(count), np.array(theta, dtype=np.float64)) for name, (count, theta) in state["thetas"].items()}

    def _learn(self, point: dict[str, Any], quality: float | None, std: float) -> None:
        self._asked.pop(point_key(point), None)
        self._seen.add(point_key(point))
        self._told.append(_Told(point, quality, std, self._encoding.codes([point])[0]))
        if self._stages is not None and quality is not None:
            self._stages.evaluated([point])

    def _spread(self, rng: np.random.Generator) -> dict[str, Any]:
        """The next point of a Sobol sequence that keeps the known constraints: in order, since every n-th point of one alone fills a corner."""
        dimensions = len(self._space.dimensions)
        if dimensions:
            sequence = qmc.Sobol(dimensions, seed=self._seed)
            if self._spread_to:
                sequence.fast_forward(self._spread_to)
            for count in (16, _SOBOL):
                points = self._encoding.points(sequence.random(count))
                for point, fits in zip(points, self._fits(points), strict=True):
                    self._spread_to += 1
                    if fits and point_key(point) not in self._seen:
                        return point
        found = drawn(self._space, self._fits, lambda point: point_key(point) not in self._seen, rng)
        return self._space.sample(rng) if found is None else found

    def _fits(self, points: Sequence[dict[str, Any]]) -> list[bool]:
        return [bool(np.isfinite(row).all()) for row in self._known.costs(points)]

    def _best(self, rng: np.random.Generator) -> dict[str, Any] | None:
        belief = self._belief()

        def gain(codes: _Array, costs: _Array) -> _Array:
            return belief.gain(self._encoding.features(codes), costs)

        pool = self._candidates.searched(gain, belief.parents, self._seen, rng)
        if self._stages is None:
            return next((point for point, _ in pool), None)
        other = next(((point, value) for point, value in pool if not self._stages.cheap([point])[0]), None)
        variants = self._candidates.ranked(gain, self._stages.variants(belief.parents, rng), self._seen)
        variant = next(((point, value) for point, value in variants if self._stages.cheap([point])[0]), None)
        if variant is not None and (other is None or self._stages.prefers(variant[1], other[1])):
            return variant[0]
        return None if other is None else other[0]

    def _belief(self) -> _Belief:
        told = [told for told in self._told if told.quality is not None]
        pending = list(self._asked.values())
        tried = self._known.costs([*(told.point for told in told), *pending])
        costs = tried[: len(told)]
        quality = np.array([told.quality for told in told], dtype=np.float64)
        reference, scale = self._box(quality)
        # How far below the box a quality lies says nothing about the front, but one collapsed network would bend the whole surrogate.
        worst = -float(reference[-1])
        quality = np.maximum(quality, worst - (max(float(quality.max()), worst) - worst + 1e-9))
        warp = LogOdds(float(quality.min()), float(quality.max()))
        odds, variance = warp.forward(quality, np.array([told.std**2 for told in told]))
        codes = np.array([told.code for told in told])
        rows = informative(np.column_stack([costs, -quality]))
        waiting = self._encoding.codes(pending)
        features = self._encoding.features
        model = Warped(self._model("quality", features(codes), odds, variance, rows, features(waiting)), warp)
        everything = np.vstack([codes, waiting])
        held = np.column_stack([tried, -model.predict(features(everything))[0]])
        best = non_dominated(held)
        return _Belief(model, self._success(), held[best & (held < reference).all(axis=1)], everything[best], reference, scale)

    def _box(self, quality: _Array) -> tuple[_Array, _Array]:
        """Reference and scale; where those of quality are not known beforehand, from the best to the worst told, single collapses aside."""
        reference, scale = self._known.reference.copy(), self._known.scale.copy()
        if np.isnan(reference[-1]):
            best, middle = float(quality.max()), float(np.median(quality))
            worst = max(float(quality.min()), best - 4 * (best - middle)) if best > middle else float(quality.min())
            span = best - worst if best > worst else max(abs(best), 1.0)
            reference[-1], scale[-1] = -(worst - 0.01 * span), 1.01 * span
        return reference, scale

    def _model(self, name: str, features: _Array, values: _Array, variance: _Array, rows: NDArray[np.int64], pending: _Array) -> GaussianProcess:
        count = len(values) if len(values) <= _ALWAYS else len(values) - len(values) % _EVERY
        if name not in self._thetas or self._thetas[name][0] != count:
            before = self._thetas[name][1] if name in self._thetas else None
            self._thetas[name] = count, fitted(features[:count], values[:count], variance[:count], before)
        theta, (shift, scale) = self._thetas[name][1], standard(values)
        features, values, variance = features[rows], values[rows], variance[rows]
        model = GaussianProcess(features, values, variance, theta, shift, scale)
        if not len(pending):
            return model
        believed = model.predict(pending)[0]
        variance = np.append(variance, np.zeros(len(pending)))
        return GaussianProcess(np.vstack([features, pending]), np.append(values, believed), variance, theta, shift, scale)

    def _success(self) -> GaussianProcess | None:
        """Of 1 for points that were evaluated and 0 for those that failed; None where none did."""
        worked = np.array([told.quality is not None for told in self._told], dtype=np.float64)
        if worked.all():
            return None
        features = self._encoding.features(np.array([told.code for told in self._told]))
        return self._model("success", features, worked, np.zeros(len(worked)), informative(worked[:, None]), features[:0])
