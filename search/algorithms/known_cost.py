"""Bayesian search for problems of which only the quality is unknown: expected hypervolume improvement with exact costs.

One Gaussian process on quality, refitted to all that was told; points that are still being evaluated count with what it believes of them [Ginsbourger2010];
where evaluations fail, a second one says how likely a point is not to. Everything follows from the seed, the number of points asked for and what was told, so
that its state is plain data and a restored search proposes the same.

[Ginsbourger2010] D. Ginsbourger, R. Le Riche, L. Carraro. Kriging is well-suited to parallelize optimization. In: Computational Intelligence in Expensive
    Optimization Problems, Springer 2010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

from search.algorithms.algorithm import Algorithm, Known, point_key
from search.algorithms.gaussian_process import GaussianProcess, fitted, standard
from search.algorithms.improvement import expected_improvement
from search.algorithms.random_search import drawn
from search.algorithms.warped import LogOdds, Warped
from search.pareto import non_dominated
from search.space import Space

__all__ = ["KnownCostSearch"]

_Array = NDArray[np.float64]
_SOBOL = 256
_RANDOM = 384
_CHILDREN = 8
_FRONT = 32
_REFINED = 12
_SCALES = (0.15, 0.04)
_FEWEST = 3
_ALWAYS, _EVERY = 60, 20
"""Hyperparameters are fitted after every point while there are few, then after every so many."""
_DOUBT = 0.12
"""Spread that is added to the prediction of whether a point fails."""


class KnownCostSearch(Algorithm):
    """One Gaussian process on quality, exact arithmetic on everything else.

    Args:
        space: what to search.
        known: the costs, the box in which they and quality count, and which objective quality is.
        seed: of initial points and candidates.
    """

    def __init__(self, space: Space, known: Known, seed: int) -> None:
        self._space, self._known, self._seed = space, known, seed
        self._initial = max(8, len(space.dimensions) + 3)
        self._asks = self._spread_to = 0
        self._asked: dict[str, dict[str, Any]] = {}
        self._seen: set[str] = set()
        self._told: list[tuple[dict[str, Any], float | None, float]] = []
        self._thetas: dict[str, tuple[int, _Array]] = {}

    def ask(self) -> dict[str, Any]:
        """A point that fits every known constraint and was not asked before, where one can be found."""
        rng = np.random.default_rng([self._seed, self._asks])
        self._asks += 1
        qualities = sum(quality is not None for _, quality, _ in self._told)
        early = qualities + len(self._asked) < self._initial or qualities < _FEWEST
        point = self._spread(rng) if early else self._best(rng)
        self._seen.add(point_key(point))
        self._asked[point_key(point)] = point
        return point

    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None, std: float | None = None) -> None:
        """Only the quality among ``objectives`` is used: the others are known."""
        self._asked.pop(point_key(values), None)
        self._seen.add(point_key(values))
        quality = None if objectives is None else self._known.sign * float(objectives[self._known.quality])
        self._told.append((dict(values), quality, std or 0.0))

    @property
    def seen(self) -> frozenset[str]:
        """Keys of the points that were asked for or told: JSON with sorted names."""
        return frozenset(self._seen)

    def state(self) -> dict[str, Any]:
        """Everything that the next points depend on, as plain data."""
        return {"asks": self._asks, "spread_to": self._spread_to, "told": [list(row) for row in self._told], "pending": list(self._asked.values())}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state()`` of a search of the same space, costs and seed."""
        self._asks, self._spread_to = int(state["asks"]), int(state["spread_to"])
        self._told = [(dict(point), None if quality is None else float(quality), float(std)) for point, quality, std in state["told"]]
        self._asked = {point_key(point): dict(point) for point in state["pending"]}
        self._seen = {point_key(point) for point, _, _ in self._told} | set(self._asked)

    def _spread(self, rng: np.random.Generator) -> dict[str, Any]:
        """The next point of a Sobol sequence that keeps the known constraints: in order, since every n-th point of one alone fills a corner."""
        dimensions = len(self._space.dimensions)
        if dimensions:
            sequence = qmc.Sobol(dimensions, seed=self._seed)
            if self._spread_to:
                sequence.fast_forward(self._spread_to)
            for count in (16, _SOBOL):
                points = [self._space.decode(code) for code in sequence.random(count)]
                for point, fits in zip(points, self._fits(points), strict=True):
                    self._spread_to += 1
                    if fits and point_key(point) not in self._seen:
                        return point
        found = drawn(self._space, self._fits, lambda point: point_key(point) not in self._seen, rng)
        return self._space.sample(rng) if found is None else found

    def _fits(self, points: Sequence[dict[str, Any]]) -> list[bool]:
        return [bool(np.isfinite(row).all()) for row in self._known.costs(points)]

    def _best(self, rng: np.random.Generator) -> dict[str, Any]:
        told = [(point, quality, std) for point, quality, std in self._told if quality is not None]
        points, pending = [point for point, _, _ in told], list(self._asked.values())
        quality = np.array([quality for _, quality, _ in told], dtype=np.float64)
        tried = [*points, *pending]
        reference, scale = self._box(quality)
        # How far below the box a quality lies says nothing about the front, but one collapsed network would bend the whole surrogate.
        worst = -float(reference[-1])
        quality = np.maximum(quality, worst - (max(float(quality.max()), worst) - worst + 1e-9))
        warp = LogOdds(float(quality.min()), float(quality.max()))
        odds, variance = warp.forward(quality, np.array([std**2 for _, _, std in told]))
        model = Warped(self._model("quality", self._features(points), odds, variance, self._features(pending)), warp)
        succeeds = self._success()
        costs = self._known.costs(tried)
        everything = np.column_stack([costs, -model.predict(self._features(tried))[0]])
        best_so_far = non_dominated(everything)
        front = everything[best_so_far & (everything < reference).all(axis=1)]
        parents = [tried[i] for i in rng.permutation(np.flatnonzero(best_so_far))[:_FRONT]]
        pool = [self._space.sample(rng) for _ in range(_RANDOM)] + self._mutated(parents, _CHILDREN, _SCALES[0], rng)
        best: tuple[float, dict[str, Any]] | None = None
        for step in (*_SCALES, None):
            candidates = self._new(pool)
            if candidates:
                prices, features = self._known.costs(candidates), self._features(candidates)
                gain = expected_improvement(prices, *model.predict(features), front, reference, scale)
                if succeeds is not None:
                    mean, deviation = succeeds.predict(features)
                    gain = gain * ndtr((mean - 0.5) / np.hypot(deviation, _DOUBT))
                gain = np.where(np.isfinite(prices).all(axis=1), gain, -1.0)
                order = np.argsort(-gain, kind="stable")
                if np.isfinite(prices[order[0]]).all() and (best is None or gain[order[0]] > best[0]):
                    best = float(gain[order[0]]), candidates[order[0]]
                pool = [candidates[i] for i in order[:_REFINED]]
            if step is not None:
                pool = [*pool, *self._mutated(pool, _CHILDREN, step, rng)]
        return best[1] if best is not None else self._spread(rng)

    def _box(self, quality: _Array) -> tuple[_Array, _Array]:
        """Reference and scale; where those of quality are not known beforehand, from the best to the worst told, single collapses aside."""
        reference, scale = self._known.reference.copy(), self._known.scale.copy()
        if np.isnan(reference[-1]):
            best, middle = float(quality.max()), float(np.median(quality))
            worst = max(float(quality.min()), best - 4 * (best - middle)) if best > middle else float(quality.min())
            span = best - worst if best > worst else max(abs(best), 1.0)
            reference[-1], scale[-1] = -(worst - 0.01 * span), 1.01 * span
        return reference, scale

    def _model(self, name: str, features: _Array, values: _Array, variance: _Array, pending: _Array) -> GaussianProcess:
        count = len(values) if len(values) <= _ALWAYS else len(values) - len(values) % _EVERY
        if name not in self._thetas or self._thetas[name][0] != count:
            self._thetas[name] = count, fitted(features[:count], values[:count], variance[:count])
        theta, (shift, scale) = self._thetas[name][1], standard(values)
        model = GaussianProcess(features, values, variance, theta, shift, scale)
        if not len(pending):
            return model
        believed = model.predict(pending)[0]
        variance = np.append(variance, np.zeros(len(pending)))
        return GaussianProcess(np.vstack([features, pending]), np.append(values, believed), variance, theta, shift, scale)

    def _success(self) -> GaussianProcess | None:
        """Of 1 for points that were evaluated and 0 for those that failed; None where none did."""
        worked = np.array([quality is not None for _, quality, _ in self._told], dtype=np.float64)
        if worked.all():
            return None
        features = self._features([point for point, _, _ in self._told])
        return self._model("success", features, worked, np.zeros(len(worked)), features[:0])

    def _new(self, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [p for key, p in {point_key(p): p for p in points}.items() if key not in self._seen]

    def _mutated(self, parents: Sequence[dict[str, Any]], children: int, scale: float, rng: np.random.Generator) -> list[dict[str, Any]]:
        found = []
        for parent in parents:
            for code in np.repeat(self._space.encode(parent)[None], children, axis=0):
                changed = rng.random(len(code)) < 1.5 / len(code)
                changed[rng.integers(len(code))] = True
                for i in np.flatnonzero(changed):
                    free = self._space.dimensions[i].kind == "choice"
                    code[i] = rng.random() if free else np.clip(code[i] + scale * rng.standard_normal(), 0, 1)
                found.append(self._space.decode(code))
        return found

    def _features(self, points: Sequence[Mapping[str, Any]]) -> _Array:
        """``[points, features]``: ordered dimensions as they are encoded, unordered choices of three and more as indicators."""
        codes = np.array([self._space.encode(p) for p in points]).reshape(len(points), len(self._space.dimensions))
        columns: list[_Array] = []
        for i, dimension in enumerate(self._space.dimensions):
            if dimension.ordinal or len(dimension.choices) < 3:
                columns.append(codes[:, i : i + 1])
            else:
                columns.append((np.floor(codes[:, i : i + 1] * len(dimension.choices)) == np.arange(len(dimension.choices))).astype(np.float64))
        return np.hstack(columns) if columns else np.zeros((len(points), 0))
