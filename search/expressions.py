"""The one small expression language: constraints, ``--where`` and ``--pick``. Parsed here, never ``eval``.

    comparison:  sum ("<=" | "<" | ">=" | ">") sum
    sum:         products joined by "+" and "-"; a product: factors joined by "*" and "/"
    factor:      NUMBER[UNIT] | [PART.]METRIC[@DEVICE] | "baseline" | "-" factor | "(" sum ")"
    where:       comparisons joined by "and" or ","
    pick:        ("knee" | "min" METRIC | "max" METRIC) ["where" where]

``baseline`` is the uncompressed model's value of the comparison's one metric, on the same split.
"""

from __future__ import annotations

import re
from typing import Literal, NoReturn

from compressors.errors import UserError
from evaluators.metric import Metric
from search.constraint import Constraint, Node, Pick
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
    r"|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?(?:@[\w.-]*\w(?:/[A-Za-z][\w-]*\w)?(?::[\w=:]*\w)?)?)"
    r"|(?P<operator><=|>=|<|>|[-+*/(),]))"
)
_OPERATORS = ("<=", "<", ">=", ">")
_KEYWORDS = ("and", "where", "min", "max", "knee", "baseline")


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

    def sum(self) -> Node:
        node = self.product()
        while self.peek() in ("+", "-"):
            node = Node(self.take("+", "-"), children=(node, self.product()))
        return node

    def product(self) -> Node:
        node = self.factor()
        while self.peek() in ("*", "/"):
            node = Node(self.take("*", "/"), children=(node, self.factor()))
        return node

    def factor(self) -> Node:
        if self.peek() == "-":
            self.take("-")
            return Node("-", children=(Node("number"), self.factor()))
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
            return Node("number", float(token["number"]) * (_UNITS[unit][0] if unit else 1.0))
        if self.peek() == "baseline":
            self.take("baseline")
            return Node("baseline")
        return Node("metric", name=self.metric()[0])

    def metric(self) -> tuple[str, Metric]:
        token = self.tokens[self.position] if self.position < len(self.tokens) else None
        if token is None or token["name"] is None or token["name"] in _KEYWORDS:
            self.fail("expected a metric or a number")
        self.position += 1
        try:
            return self.names.resolve(token["name"])
        except UserError as error:
            raise UserError(f"{error} (in {self.text!r})") from None
