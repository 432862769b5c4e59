"""Rows that are worked on together where they have something in common."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

__all__ = ["in_groups"]

Row = TypeVar("Row")
Result = TypeVar("Result")


def in_groups(rows: Sequence[Row], key: Callable[[Row], Hashable], found: Callable[[list[Row]], Iterable[Result]]) -> list[Result]:
    """What ``found`` says of each row, asked once for all rows of one ``key``; in the order of ``rows``."""
    groups: dict[Hashable, list[int]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(key(row), []).append(i)
    results: dict[int, Result] = {}
    for places in groups.values():
        results |= zip(places, found([rows[i] for i in places]), strict=True)
    return [results[i] for i in range(len(rows))]
