"""Bayesian search for problems of which only the quality is unknown: expected hypervolume improvement with exact costs.

The improvement of a candidate is integrated in closed form: the space of costs is cut into cells by the costs of the front; in each cell that the candidate
dominates, quality counts above the best that the front offers there, and its expectation under a normal posterior is the expected improvement [Jones1998].
Where qualities are modelled as well, as in [Yang2019], hundreds of trials are spent on learning arithmetic.

[Jones1998] D. R. Jones, M. Schonlau, W. J. Welch. Efficient global optimization of expensive black-box functions. J. Global Optimization 13, 1998.
[Yang2019] K. Yang, M. Emmerich, A. Deutz, T. Bäck. Multi-objective Bayesian global optimization using expected hypervolume improvement gradient. Swarm
    Evol. Comput. 44, 2019.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, qmc

from search.algorithms.algorithm import Algorithm, Known
from search.pareto import non_dominated
from search.space import Space

__all__ = ["KnownCostSearch", "expected_improvement"]

_Array = NDArray[np.float64]
_SOBOL = 256
_RANDOM = 384
_CHILDREN = 8
_FRONT = 32
_REFINED = 12
_SCALES = (0.15, 0.04)
_CELLS = 20_000
_FEWEST = 3
_FIT_STEPS = 30


class KnownCostSearch(Algorithm):
    """One Gaussian process on quality, exact arithmetic on everything else.

    Args:
        space: what to search.
        known: the costs, the box in which they and quality count, and which objective quality is.
        seed: of initial points and candidates.
    """

    def __init__(self, space: Space, known: Known, seed: int) -> None:
        self._space, self._known = space, known
        self._rng = np.random.default_rng(seed)
        self._first = qmc.Sobol(len(space.dimensions), seed=self._rng) if space.dimensions else None
        self._initial = max(8, len(space.dimensions) + 3)
        self._asked: dict[str, dict[str, Any]] = {}
        self._seen: set[str] = set()
        self._points: list[dict[str, Any]] = []
        self._quality: list[float] = []

    def ask(self) -> dict[str, Any]:
        """A point that fits every known constraint and was not asked before, where one can be found."""
        early = len(self._points) + len(self._asked) < self._initial or len(self._points) < _FEWEST
        point = self._spread() if early else self._best()
        self._seen.add(_key(point))
        self._asked[_key(point)] = point
        return point

    def tell(self, values: Mapping[str, Any], objectives: Sequence[float] | None) -> None:
        """Only the quality among ``objectives`` is used: the others are known."""
        self._asked.pop(_key(values), None)
        self._seen.add(_key(values))
        if objectives is not None:
            self._points.append(dict(values))
            self._quality.append(self._known.sign * float(objectives[self._known.quality]))

    def _spread(self) -> dict[str, Any]:
        """The next point of a Sobol sequence that keeps the known constraints: in order, since every n-th point of one alone fills a corner."""
        for _ in range(_SOBOL):
            code = self._first.random(1)[0] if self._first is not None else np.zeros(0)
            points = self._new([self._space.decode(code)])
            if points and np.isfinite(self._known.costs(points)).all():
                return points[0]
        return self._space.sample(self._rng)

    def _best(self) -> dict[str, Any]:
        pending = list(self._asked.values())
        tried = [*self._points, *pending]
        model = _Surrogate(self._features(self._points), np.maximum(self._quality, self._floor()), self._features(pending))
        costs = self._known.costs(tried)
        everything = np.column_stack([costs, -model.predict(self._features(tried))[0]])
        front = everything[non_dominated(everything) & (everything < self._known.reference).all(axis=1)]
        parents = [tried[i] for i in self._rng.permutation(np.flatnonzero(non_dominated(everything)))[:_FRONT]]
        pool = [self._space.sample(self._rng) for _ in range(_RANDOM)] + self._mutated(parents, _CHILDREN, _SCALES[0])
        best: tuple[float, dict[str, Any]] | None = None
        for scale in (*_SCALES, None):
            points = self._new(pool)
            if points:
                prices = self._known.costs(points)
                gain = self._gain(model, points, prices, front)
                order = np.argsort(-gain, kind="stable")
                if np.isfinite(prices[order[0]]).all() and (best is None or gain[order[0]] > best[0]):
                    best = float(gain[order[0]]), points[order[0]]
                pool = [points[i] for i in order[:_REFINED]]
            if scale is not None:
                pool = self._mutated(pool, _CHILDREN, scale)
        return best[1] if best is not None else self._spread()

    def _gain(self, model: _Surrogate, points: list[dict[str, Any]], costs: _Array, front: _Array) -> _Array:
        mean, deviation = model.predict(self._features(points))
        gain = expected_improvement(costs, mean, deviation, front, self._known.reference, self._known.scale)
        return np.where(np.isfinite(costs).all(axis=1), gain, -1.0)

    def _floor(self) -> float:
        # How far below the box a quality lies says nothing about the front, but one collapsed network would bend the whole surrogate.
        worst = -float(self._known.reference[-1])
        return worst - (max(*self._quality, worst) - worst + 1e-9)

    def _new(self, points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return [p for key, p in {_key(p): p for p in points}.items() if key not in self._seen]

    def _mutated(self, parents: Sequence[dict[str, Any]], children: int, scale: float) -> list[dict[str, Any]]:
        found = []
        for parent in parents:
            for code in np.repeat(self._space.encode(parent)[None], children, axis=0):
                changed = self._rng.random(len(code)) < 1.5 / len(code)
                changed[self._rng.integers(len(code))] = True
                for i in np.flatnonzero(changed):
                    free = self._space.dimensions[i].kind == "choice"
                    code[i] = self._rng.random() if free else np.clip(code[i] + scale * self._rng.standard_normal(), 0, 1)
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


class _Surrogate:
    """A Gaussian process fitted once; pending points count with what it believes of them [Ginsbourger2010]."""

    def __init__(self, features: _Array, quality: _Array, pending: _Array) -> None:
        import torch

        self._shift, self._scale = float(quality.mean()), max(float(quality.std()), 1e-6)
        with warnings.catch_warnings():
            # Importing GPyTorch compiles scripts, and fits of a handful of points are said not to converge.
            warnings.simplefilter("ignore")
            from botorch.fit import fit_gpytorch_mll
            from botorch.models import SingleTaskGP
            from gpytorch.mlls import ExactMarginalLogLikelihood

            y = torch.from_numpy((quality - self._shift) / self._scale)[:, None]
            self._model = SingleTaskGP(torch.from_numpy(features), y, outcome_transform=None)
            mll = ExactMarginalLogLikelihood(self._model.likelihood, self._model)
            fit_gpytorch_mll(mll, optimizer_kwargs={"options": {"maxiter": _FIT_STEPS}})
        self._model.eval()
        if len(pending):
            x = torch.from_numpy(pending)
            with torch.no_grad():
                believed = self._model.posterior(x).mean[:, 0]
            inputs = torch.cat([torch.from_numpy(features), x])
            self._model.set_train_data(inputs, torch.cat([self._model.train_targets, believed]), strict=False)

    def predict(self, features: _Array) -> tuple[_Array, _Array]:
        """Mean and standard deviation of the noise-free quality, each ``[points]``."""
        import torch

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            posterior = self._model.posterior(torch.from_numpy(features))
        mean, variance = posterior.mean[:, 0].numpy(), posterior.variance[:, 0].numpy()
        return self._shift + self._scale * mean, self._scale * np.sqrt(np.maximum(variance, 1e-12))


def expected_improvement(costs: _Array, mean: _Array, deviation: _Array, front: _Array, reference: _Array, scale: _Array) -> _Array:
    """Expected gain in hypervolume of each candidate, in units of the box ``scale``.

    Args:
        costs: ``[candidates, k]`` known costs, smaller is better.
        mean: ``[candidates]`` expected quality, larger is better.
        deviation: ``[candidates]`` its standard deviation.
        front: ``[points, k + 1]``: costs and *negated* quality of what is there; dominated points do no harm.
        reference: ``[k + 1]``: costs and negated quality that are no use any more.
        scale: ``[k + 1]`` edge lengths.

    Returns:
        ``[candidates]``, 0 where a cost exceeds the reference.
    """
    k = costs.shape[1]
    limit = max(2, int(_CELLS ** (1 / max(k, 1))))
    lows, highs = [], []
    for i in range(k):
        edges = np.unique(front[:, i])
        if len(edges) > limit:
            edges = edges[np.linspace(0, len(edges) - 1, limit).astype(int)]
        lows.append(np.concatenate([[-np.inf], edges]))
        highs.append(np.concatenate([edges, [reference[i]]]))
    corners = np.stack([m.ravel() for m in np.meshgrid(*lows, indexing="ij")], axis=1) if k else np.zeros((1, 0))
    level = np.full(len(corners), -reference[-1])
    for point in front:
        np.maximum(level, -point[-1], out=level, where=(point[:-1] <= corners).all(axis=1))
    levels, which = np.unique(level, return_inverse=True)
    volume = np.ones((len(costs), 1))
    for i in range(k):
        edge = np.clip(highs[i] - np.maximum(lows[i], costs[:, i : i + 1]), 0, None) / scale[i]
        volume = (volume[:, :, None] * edge[:, None, :]).reshape(len(costs), -1)
    by_level = volume @ (which[:, None] == np.arange(len(levels))).astype(np.float64)
    z = (mean[:, None] - levels) / deviation[:, None]
    gain = deviation[:, None] * (z * norm.cdf(z) + norm.pdf(z)) / scale[-1]
    improvement: _Array = np.nan_to_num((by_level * gain).sum(axis=1), nan=0.0)
    return improvement


def _key(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), sort_keys=True, default=str)
