"""Where an acquisition function is largest: every point of a small space, else points spread over it and mutations of the front, refined step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from search.algorithms.algorithm import point_key
from search.algorithms.encoding import Encoding

__all__ = ["Candidates", "Gain"]

_Array = NDArray[np.float64]
Gain = Callable[[_Array, _Array], _Array]
"""From codes ``[candidates, dimensions]`` and costs ``[candidates, costs]`` to what they promise, negative for what must not be."""
_EVERY = 2048
"""Points of a space that is small enough for all of them to be looked at."""
_SPREAD = 512
_FRONT = 32
_CHILDREN = 8
_WIDE, _NARROW = 0.15, 0.04
_KEPT, _FAMILY = 12, 16
_STEPS = (0.15, 0.06, 0.03, 0.015)


class Candidates:
    """Of one space and its known costs.

    Args:
        encoding: of the space.
        costs: of points, ``[points, costs]``, a row of NaN where a constraint is broken.
    """

    def __init__(self, encoding: Encoding, costs: Callable[[Sequence[Mapping[str, Any]]], _Array]) -> None:
        self._encoding, self._costs = encoding, costs
        self._small = encoding.every(_EVERY)
        # The same ones each time: what they cost need not be asked again.
        self._spread = qmc.Sobol(len(encoding.free), seed=0).random(_SPREAD) if self._small is None else np.zeros((0, len(encoding.free)))

    def searched(self, gain: Gain, parents: _Array, seen: AbstractSet[str], rng: np.random.Generator) -> Iterator[tuple[dict[str, Any], float]]:
        """Points that were not seen, and what they promise, the best first.

        Args:
            gain: what is searched for.
            parents: codes of points that are worth mutating.
            seen: keys of points.
            rng: of everything random.
        """
        if self._small is not None:
            # Asked each time: what a candidate is expected to cost may be learned, as that of early exits is.
            points = self._encoding.points(self._small)
            yield from _ranked(points, gain(self._small, self._costs(points)), seen)
            return
        front = parents[rng.permutation(len(parents))[:_FRONT]]
        pool = [self._spread, *(self._mutated(front, _CHILDREN, scale, rng) for scale in (_WIDE, _NARROW))]
        codes, points, values = self._valued(gain, np.vstack(pool))
        for scale in _STEPS:
            best = np.argsort(-values, kind="stable")[:_KEPT]
            more, further, promised = self._valued(gain, self._mutated(codes[best], _FAMILY, scale, rng))
            codes, points, values = np.vstack([codes, more]), points + further, np.append(values, promised)
        yield from _ranked(points, values, seen)

    def ranked(self, gain: Gain, codes: _Array, seen: AbstractSet[str]) -> Iterator[tuple[dict[str, Any], float]]:
        """Those of some points that were not seen, and what they promise, the best first."""
        _, points, values = self._valued(gain, codes)
        yield from _ranked(points, values, seen)

    def _valued(self, gain: Gain, codes: _Array) -> tuple[_Array, list[dict[str, Any]], _Array]:
        codes = np.unique(self._encoding.snapped(codes), axis=0)
        points = self._encoding.points(codes)
        return codes, points, gain(codes, self._costs(points)) if points else np.zeros(0)

    def _mutated(self, parents: _Array, children: int, scale: float, rng: np.random.Generator) -> _Array:
        codes = np.repeat(parents, children, axis=0)
        if not codes.size:
            return codes
        dimensions = codes.shape[1]
        changed = rng.random(codes.shape) < 1.5 / dimensions
        changed[np.arange(len(codes)), rng.integers(dimensions, size=len(codes))] = True
        moved = np.where(self._encoding.free, rng.random(codes.shape), np.clip(codes + scale * rng.standard_normal(codes.shape), 0, 1))
        return np.where(changed, moved, codes)


def _ranked(points: Sequence[dict[str, Any]], values: _Array, seen: AbstractSet[str]) -> Iterator[tuple[dict[str, Any], float]]:
    for i in np.argsort(-values, kind="stable"):
        if values[i] < 0:
            return
        if point_key(points[i]) not in seen:
            yield points[i], float(values[i])
