"""Sizes as polynomials over axis widths: how a shape stays an expression instead of a number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Polynomial"]


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of products of axis widths.

    Attributes:
        terms: pairs of a sorted tuple of axis indices (with repetition for powers) and an integer
            coefficient; the empty tuple is the constant term.
    """

    terms: tuple[tuple[tuple[int, ...], int], ...]

    @classmethod
    def constant(cls, value: int) -> Polynomial:
        """The polynomial that is ``value`` everywhere."""
        return cls((((), int(value)),) if value else ())

    @classmethod
    def axis(cls, index: int) -> Polynomial:
        """The width of the axis with this index."""
        return cls((((index,), 1),))

    @classmethod
    def _collect(cls, terms: Mapping[tuple[int, ...], int]) -> Polynomial:
        return cls(tuple(sorted((axes, c) for axes, c in terms.items() if c)))

    def __add__(self, other: Polynomial | int) -> Polynomial:
        other = other if isinstance(other, Polynomial) else Polynomial.constant(other)
        total: dict[tuple[int, ...], int] = defaultdict(int)
        for axes, coefficient in self.terms + other.terms:
            total[axes] += coefficient
        return self._collect(total)

    def __mul__(self, other: Polynomial | int) -> Polynomial:
        other = other if isinstance(other, Polynomial) else Polynomial.constant(other)
        total: dict[tuple[int, ...], int] = defaultdict(int)
        for left, a in self.terms:
            for right, b in other.terms:
                total[tuple(sorted(left + right))] += a * b
        return self._collect(total)

    __radd__ = __add__
    __rmul__ = __mul__

    def evaluate(self, widths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Values for ``widths`` of shape ``[candidates, axes]``; returns ``[candidates]``."""
        total = np.zeros(len(widths), dtype=np.int64)
        for axes, coefficient in self.terms:
            product: NDArray[np.int64] | int = coefficient
            for axis in axes:
                product = product * widths[:, axis]
            total += product
        return total
