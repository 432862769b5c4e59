"""What evaluating a point would still cost, given what was evaluated before: variants that share their costly stages with an earlier point are cheap.

Ranked by improvement per cost in one pool, cheap variants would crowd out everything else. So there are two: points with costly stages of their own, and
variants of what was evaluated. The best variant is taken where it promises more than a share of what the best of the others promises.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.algorithms.encoding import Encoding

__all__ = ["StageRule", "Stages"]

Stages = Callable[[list[dict[str, Any]]], Sequence[Sequence[tuple[str, float]]]]
"""Of each point its stages, each what it computes (equal texts are computed once) and what that costs."""
_Array = NDArray[np.float64]
_CHEAP = 0.5
"""A variant costs at most this share of a point of which nothing was computed."""
_SHARE = 0.2
_PROBES = 16
_VARIANTS = 16


class StageRule:
    """Which dimensions are late, what was computed, and what is chosen.

    Args:
        stages: of points.
        encoding: of their space.
        seed: of the points that are looked at to find late dimensions.
    """

    def __init__(self, stages: Stages, encoding: Encoding, seed: int) -> None:
        self._stages, self._encoding = stages, encoding
        self._computed: set[str] = set()
        rng = np.random.default_rng([seed, 3])
        codes = encoding.snapped(rng.random((_PROBES, len(encoding.free))))
        self._late = [i for i in range(codes.shape[1]) if self._is_late(i, codes, rng)]

    def evaluated(self, points: Sequence[Mapping[str, Any]]) -> None:
        """The stages of these are there from now on."""
        for stages in self._stages([dict(p) for p in points]):
            self._computed |= {key for key, _ in stages}

    def cheap(self, points: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
        """Which points are variants of what was evaluated."""
        found = []
        for stages in self._stages([dict(p) for p in points]):
            left = sum(cost for key, cost in stages if key not in self._computed)
            found.append(left <= _CHEAP * sum(cost for _, cost in stages))
        return np.array(found, dtype=np.bool_)

    def variants(self, codes: _Array, rng: np.random.Generator) -> _Array:
        """Codes of variants of points: all of them, or some where there are many."""
        if not self._late:
            return codes[:0]
        counts = [self._encoding.counts[i] for i in self._late]
        known = [c for c in counts if c is not None]
        if len(known) == len(counts) and math.prod(known) <= _VARIANTS:
            settings = np.array(list(itertools.product(*([(j + 0.5) / c for j in range(c)] for c in known))))
        else:
            settings = rng.random((_VARIANTS, len(self._late)))
        result = np.repeat(codes, len(settings), axis=0)
        result[:, self._late] = np.tile(settings, (len(codes), 1))
        return self._encoding.snapped(result)

    def prefers(self, variant: float, other: float) -> bool:
        """Whether the best variant is taken, from what it and the best of the others promise."""
        return variant > _SHARE * other

    def _is_late(self, dimension: int, codes: _Array, rng: np.random.Generator) -> bool:
        """Whether points that differ there alone share their costly stages."""
        moved = codes.copy()
        moved[:, dimension] = rng.random(len(codes))
        moved = self._encoding.snapped(moved)
        pairs = [self._stages(self._encoding.points(c)) for c in (codes, moved)]
        shares = []
        for first, second in zip(*pairs, strict=True):
            common = {key for key, _ in first}
            shares.append(sum(cost for key, cost in second if key not in common) <= _CHEAP * sum(cost for _, cost in second))
        return all(shares)
