"""Comparisons over metrics, and picks among candidates: what ``search.expressions`` parses text into."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluators.metric import Metric

__all__ = ["Constraint", "Node", "Pick"]


class Interval(NamedTuple):
    """Lower and upper ends of a value, each a number or ``[candidates]``."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Node:
    """An expression: ``kind`` is ``number``, ``metric``, ``baseline`` or one of ``+ - * /``."""

    kind: str
    value: float = 0.0
    name: str = ""
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterable[Node]:
        """Itself and everything below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def evaluate(self, values: Mapping[str, Interval], baseline: Interval | None) -> Interval:
        """Interval arithmetic, elementwise over candidates."""
        if self.kind == "number":
            return Interval(np.asarray(self.value), np.asarray(self.value))
        if self.kind == "metric":
            return values[self.name]
        if self.kind == "baseline":
            assert baseline is not None
            return baseline
        a, b = (child.evaluate(values, baseline) for child in self.children)
        if self.kind == "+":
            return Interval(a.low + b.low, a.high + b.high)
        if self.kind == "-":
            return Interval(a.low - b.high, a.high - b.low)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = [x * y if self.kind == "*" else x / y for x in a for y in b]
        return Interval(np.minimum.reduce(np.broadcast_arrays(*ends)), np.maximum.reduce(np.broadcast_arrays(*ends)))


@dataclass(frozen=True, slots=True)
class Constraint:
    """A comparison that a candidate keeps or breaks.

    Attributes:
        text: as it was written.
        metrics: each canonical name that it needs, with its metric.
    """

    text: str
    metrics: tuple[tuple[str, Metric], ...]
    _lesser: Node
    _greater: Node
    _strict: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Canonical names of the metrics it needs."""
        return tuple(name for name, _ in self.metrics)

    @property
    def observed(self) -> bool:
        """Whether it needs the trained model; otherwise it can be checked before any training."""
        return any(metric.knowledge == "observed" for _, metric in self.metrics)

    @property
    def names_baseline(self) -> bool:
        """Whether it compares with the uncompressed model."""
        return any(node.kind == "baseline" for side in (self._lesser, self._greater) for node in side.walk())

    def violation(self, metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> NDArray[np.float64]:
        """By how much it is broken, relative to the bound: above 0 where broken, NaN where a metric is NaN.

        A predicted metric counts with the end of its interval that is worse for the candidate; where the comparison names
        ``baseline``, errors of prediction are shared by both sides and the values themselves are compared.

        Args:
            metrics: by canonical name, numbers, arrays ``[candidates]``, or anything with ``value``, ``low`` and ``high`` of these.
            baseline: the same for the uncompressed model; needed where ``names_baseline``.

        Raises:
            KeyError: a metric that it needs is absent.
        """
        relative = self.names_baseline
        predicted = {name for name, metric in self.metrics if metric.knowledge == "predicted" and not relative}
        values = {name: _interval(metrics[name], name in predicted) for name in self.names}
        reference = None
        if relative:
            if baseline is None:
                raise KeyError(f"{self.text!r} needs the baseline's metrics")
            reference = _interval(baseline[self.names[0]], False)
        lesser, greater = self._lesser.evaluate(values, reference), self._greater.evaluate(values, reference)
        scale = np.maximum(np.abs(greater.low), np.abs(lesser.high))
        excess = lesser.high - greater.low
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(scale > 0, excess / scale, excess), dtype=np.float64)

    def satisfied(self, metrics: Mapping[str, Any], baseline: Mapping[str, Any] | None = None) -> Any:
        """Whether it is kept (False for NaN): a bool for one candidate, ``[candidates]`` of bools for arrays. Arguments as for ``violation``."""
        violation = self.violation(metrics, baseline)
        # 0.98 - 0.05 is not 0.93 in binary: a bound counts as met within rounding.
        kept = violation < -1e-12 if self._strict else violation <= 1e-12
        return bool(kept) if kept.ndim == 0 else kept


@dataclass(frozen=True, slots=True)
class Pick:
    """Which point of a front is meant: the knee (``name`` is None), or the best of one metric, among those that keep ``where``."""

    text: str
    name: str | None
    direction: Literal["min", "max"] | None
    where: tuple[Constraint, ...]

    def allowed(self, columns: Mapping[str, Any], rows: int, baseline: Mapping[str, Any] | None = None) -> NDArray[np.bool_]:
        """Which of ``rows`` candidates keep every comparison, ``[rows]``; ``columns`` are arrays by canonical name."""
        kept = np.ones(rows, dtype=np.bool_)
        for constraint in self.where:
            kept &= np.broadcast_to(constraint.satisfied(columns, baseline), rows)
        return kept

    def best(self, columns: Mapping[str, Any], rows: int, baseline: Mapping[str, Any] | None = None) -> int | None:
        """Row of the best allowed candidate, the first among equals; None where none is allowed. Not for a knee."""
        assert self.name is not None
        column = np.asarray(getattr(columns[self.name], "value", columns[self.name]), dtype=np.float64)
        loss = np.where(self.allowed(columns, rows, baseline) & np.isfinite(column), column if self.direction == "min" else -column, np.inf)
        return int(np.argmin(loss)) if rows and np.isfinite(loss).any() else None


def _interval(value: Any, conservative: bool) -> Interval:
    low, high = (getattr(value, end if conservative else "value", value) for end in ("low", "high"))
    return Interval(np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64))
