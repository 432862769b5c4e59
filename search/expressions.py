"""The one small expression language: constraints, ``--where`` and ``--pick``. Parsed here, never ``eval``.

    comparison:  sum ("<=" | "<" | ">=" | ">") sum
    sum:         products joined by "+" and "-"; a product: factors joined by "*" and "/"
    factor:      NUMBER[UNIT] | METRIC[@DEVICE] | "baseline" | "-" factor | "(" sum ")"
    where:       comparisons joined by "and" or ","
    pick:        ("knee" | "min" METRIC | "max" METRIC) ["where" where]

``baseline`` is the uncompressed model's value of the comparison's one metric, on the same split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from compressors.errors import UserError
from evaluators.metric import Metric
from search.metric_names import MetricNames

__all__ = ["Constraint", "Pick", "parse_constraint", "parse_pick", "parse_where"]

_UNITS: dict[str, tuple[float, str | None]] = {
    "B": (1, "B"), "KB": (1e3, "B"), "kB": (1e3, "B"), "MB": (1e6, "B"), "GB": (1e9, "B"),
    "KiB": (2**10, "B"), "MiB": (2**20, "B"), "GiB": (2**30, "B"),
    "us": (1e-3, "ms"), "ms": (1, "ms"), "s": (1e3, "ms"),
    "mJ": (1, "mJ"), "J": (1e3, "mJ"),
    "%": (1e-2, None), "k": (1e3, None), "M": (1e6, None), "G": (1e9, None),
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>%|(?!and\b|where\b)[A-Za-z]+)?"
    r"|(?P<name>[A-Za-z_]\w*(?:@[\w.-]*\w(?:/[A-Za-z][\w-]*\w)?(?::[\w=:]*\w)?)?)"
    r"|(?P<operator><=|>=|<|>|[-+*/(),]))"
)
_OPERATORS = ("<=", "<", ">=", ">")
_KEYWORDS = ("and", "where", "min", "max", "knee", "baseline")


class Interval(NamedTuple):
    """Lower and upper ends of a value, each a number or ``[candidates]``."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Node:
    """An expression: ``kind`` is ``number``, ``metric``, ``baseline`` or one of ``+ - * /``."""

    kind: str
    value: float = 0.0
    name: str = ""
    children: tuple[_Node, ...] = ()

    def walk(self) -> Iterable[_Node]:
        yield self
        for child in self.children:
            yield from child.walk()

    def evaluate(self, values: Mapping[str, Interval], baseline: Interval | None) -> Interval:
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
    _lesser: _Node
    _greater: _Node
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


def parse_constraint(text: str, names: MetricNames) -> Constraint:
    """One comparison.

    Raises:
        UserError: what cannot be read, and what is accepted.
    """
    parser = _Parser(text, names)
    constraint = parser.comparison()
    parser.end()
    return constraint


def parse_where(text: str, names: MetricNames) -> tuple[Constraint, ...]:
    """Comparisons joined by ``and`` or commas.

    Raises:
        UserError: what cannot be read, and what is accepted.
    """
    parser = _Parser(text, names)
    where = parser.where()
    parser.end()
    return where


def parse_pick(text: str, names: MetricNames) -> Pick:
    """``knee``, ``min METRIC`` or ``max METRIC``, each with an optional ``where``.

    Raises:
        UserError: what cannot be read, and what is accepted.
    """
    parser = _Parser(text, names)
    pick = parser.pick()
    parser.end()
    return pick


def _interval(value: Any, conservative: bool) -> Interval:
    low, high = (getattr(value, end if conservative else "value", value) for end in ("low", "high"))
    return Interval(np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64))


class _Parser:
    """Recursive descent over the grammar at the top of the file."""

    def __init__(self, text: str, names: MetricNames) -> None:
        if not isinstance(text, str):
            raise UserError(f"expected text such as 'accuracy >= baseline - 0.01', got {text!r}")
        self.text, self.names, self.position = text, names, 0
        self.tokens: list[re.Match[str]] = []
        at = 0
        while text[at:].strip():
            token = _TOKEN.match(text, at)
            if token is None:
                raise UserError(
                    f"cannot read {text[at:].strip()!r} in {text!r}; accepted: METRIC[@DEVICE], numbers with units, baseline, + - * / ( ), <= < >= >"
                )
            self.tokens.append(token)
            at = token.end()

    def peek(self) -> str:
        return self.tokens[self.position].group().strip() if self.position < len(self.tokens) else ""

    def take(self, *accepted: str) -> str:
        token = self.peek()
        if token not in accepted:
            self.fail(f"expected {' or '.join(accepted)}")
        self.position += 1
        return token

    def fail(self, expected: str) -> NoReturn:
        raise UserError(f"{expected} {f'before {self.peek()!r}' if self.peek() else 'at the end'} of {self.text!r}")

    def end(self) -> None:
        if self.peek():
            self.fail("expected the end")

    def pick(self) -> Pick:
        if self.peek() not in ("knee", "min", "max"):
            raise UserError(f"cannot pick by {self.text!r}; accepted: knee, 'min METRIC', 'max METRIC', each with 'where COMPARISON and ...'")
        verb = self.take("knee", "min", "max")
        name = None if verb == "knee" else self.metric()[0]
        where: tuple[Constraint, ...] = ()
        if self.peek() == "where":
            self.take("where")
            where = self.where()
        direction: Literal["min", "max"] | None = None if verb == "knee" else "min" if verb == "min" else "max"
        return Pick(self.text, name, direction, where)

    def where(self) -> tuple[Constraint, ...]:
        found = [self.comparison()]
        while self.peek() in ("and", ","):
            self.take("and", ",")
            found.append(self.comparison())
        return tuple(found)

    def comparison(self) -> Constraint:
        start = self.position
        left = self.sum()
        operator = self.take(*_OPERATORS)
        right = self.sum()
        tokens = self.tokens[start : self.position]
        text = self.text[tokens[0].start() : tokens[-1].end()].strip()
        nodes = [*left.walk(), *right.walk()]
        metrics = {n.name: self.names.resolve(n.name)[1] for n in nodes if n.kind == "metric"}
        if not metrics:
            raise UserError(f"{text!r} names no metric; accepted: {', '.join(self.names.all)}")
        if any(n.kind == "baseline" for n in nodes) and len(metrics) > 1:
            raise UserError(f"'baseline' in {text!r} could mean {' or '.join(metrics)}; write one comparison for each")
        units = {metric.unit for metric in metrics.values()}
        for token in tokens:
            unit = token["unit"]
            dimension = _UNITS[unit][1] if unit else None
            if dimension is not None and dimension not in units:
                described = ", ".join(f"{name} ({metric.unit or 'no unit'})" for name, metric in metrics.items())
                raise UserError(f"unit {unit!r} in {text!r} does not fit {described}")
        lesser, greater = (left, right) if operator in ("<=", "<") else (right, left)
        return Constraint(text, tuple(metrics.items()), lesser, greater, operator in ("<", ">"))

    def sum(self) -> _Node:
        node = self.product()
        while self.peek() in ("+", "-"):
            node = _Node(self.take("+", "-"), children=(node, self.product()))
        return node

    def product(self) -> _Node:
        node = self.factor()
        while self.peek() in ("*", "/"):
            node = _Node(self.take("*", "/"), children=(node, self.factor()))
        return node

    def factor(self) -> _Node:
        if self.peek() == "-":
            self.take("-")
            return _Node("-", children=(_Node("number"), self.factor()))
        if self.peek() == "(":
            self.take("(")
            node = self.sum()
            self.take(")")
            return node
        token = self.tokens[self.position] if self.position < len(self.tokens) else None
        if token is not None and token["number"] is not None:
            unit = token["unit"]
            if unit is not None and unit not in _UNITS:
                raise UserError(f"unknown unit {unit!r} in {self.text!r}; accepted: {', '.join(_UNITS)}")
            self.position += 1
            return _Node("number", float(token["number"]) * (_UNITS[unit][0] if unit else 1.0))
        if self.peek() == "baseline":
            self.take("baseline")
            return _Node("baseline")
        return _Node("metric", name=self.metric()[0])

    def metric(self) -> tuple[str, Metric]:
        token = self.tokens[self.position] if self.position < len(self.tokens) else None
        if token is None or token["name"] is None or token["name"] in _KEYWORDS:
            self.fail("expected a metric or a number")
        self.position += 1
        try:
            return self.names.resolve(token["name"])
        except UserError as error:
            raise UserError(f"{error} (in {self.text!r})") from None
