"""Where the names of marks go, so that they cover neither each other nor a mark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["PlacedName", "place_names"]

_LETTER, _ABOVE, _BELOW = 6.3, 10.0, 3.0
"""Pixels: width of a letter, and extent above and below the baseline, of 11 px text; a little generous, because fonts differ."""

Box = tuple[float, float, float, float]


class PlacedName(NamedTuple):
    """Text and the left end of its baseline, in pixels."""

    x: float
    y: float
    text: str


def place_names(anchors: Sequence[tuple[float, float, str]], marks: Sequence[tuple[float, float]], frame: Box) -> list[PlacedName]:
    """Places for the names of ``anchors``, each ``(x, y, text)`` in pixels.

    Of eight places around its mark a name takes one within ``frame`` (left, top, right, bottom) that touches no name placed before it and no other named
    mark, and that covers as little of ``marks`` as can be. A name for which there is none is left out.
    """
    placed: list[PlacedName] = []
    taken: list[Box] = []
    for anchor in anchors:
        x, y, text = anchor
        width = _LETTER * len(text)
        others = [_around(a[0], a[1], 8) for a in anchors if a is not anchor]
        best: tuple[float, Box, PlacedName] | None = None
        for dx, dy in ((9, -6), (9, 15), (-width / 2, -11), (-width / 2, 20), (-9 - width, -6), (-9 - width, 15), (9, 4), (-9 - width, 4)):
            left, base = x + dx, y + dy
            box = (left - 1, base - _ABOVE, left + width + 1, base + _BELOW)
            outside = box[0] < frame[0] or box[1] < frame[1] or box[2] > frame[2] or box[3] > frame[3]
            if outside or any(_overlap(box, other) for other in (*taken, *others)):
                continue
            covered = sum(_overlap(box, _around(*mark, 5)) for mark in marks)
            if best is None or covered < best[0]:
                best = (covered, box, PlacedName(left, base, text))
        if best is not None:
            taken.append(best[1])
            placed.append(best[2])
    return placed


def _around(x: float, y: float, radius: float) -> Box:
    return x - radius, y - radius, x + radius, y + radius


def _overlap(a: Box, b: Box) -> float:
    """Shared area, in square pixels."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
